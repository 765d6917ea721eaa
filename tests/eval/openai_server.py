"""An OpenAI-like server in this process, scripted by the test."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """An OpenAI-like server that answers by `reply(body, number of the request)` -> (status, JSON, headers)."""

    def __init__(self, reply):
        self.requests, self.keys, self.open, self.most = [], [], 0, 0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *parts):
                pass

            def do_GET(self):
                self._send(200, {"data": [{"id": "m1"}]}, {})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    outer.open += 1
                    outer.most = max(outer.most, outer.open)
                    number = len(outer.requests)
                status, row, headers = reply(body, number)
                with lock:
                    outer.open -= 1
                self._send(status, row, headers)

            def _send(self, status, row, headers):
                data = json.dumps(row).encode()
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


def said(text, finish="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m1", "choices": [choice], "usage": usage}, {}
