"""Samples, and a server that plays an OpenAI-compatible judge on the loopback."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from factory.contracts import Message, Sample


def sample(name="s1", reference="blue", task="sky"):
    return Sample(name, task, (Message("user", f"What colour is the sky ({name})?"),), reference)


def mark_of(prompt):
    """The random mark of a judge's prompt, as a judge reads it: in its last line."""
    return re.search(r"VERDICT ([0-9a-f]+): N$", prompt).group(1)


def answer_of(prompt):
    """The text fenced as ANSWER."""
    mark = mark_of(prompt)
    return prompt.split(f"<<<{mark} ANSWER\n")[1].split(f"\n{mark} ANSWER>>>")[0]


class Server:
    """`reply(prompt) -> text`, or an exception, or (status, bytes)."""

    def __init__(self):
        self.reply = lambda prompt: f"VERDICT {mark_of(prompt)}: 10"
        self.requests = []
        self.raw = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                if outer.raw is not None:
                    outer.raw(self)
                    return
                found = outer.reply(body["messages"][-1]["content"])
                status, text = found if isinstance(found, tuple) else (200, found)
                data = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
