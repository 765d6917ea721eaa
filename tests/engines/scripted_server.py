"""A server that answers as vLLM does, from a script. A program: `scripted_server.py -m MODULE --model M --port P …`.

$SCRIPTED_FOLDER/script.json   path -> list of what its calls do, in turn: `ok`, `die`, `hang`, `500`, `400`, `strange`; then `ok`
$SCRIPTED_FOLDER/calls.jsonl   every call with its body, and every start with its arguments
Every token has the log-probability of a uniform choice of 8, or what `logprob` in the script says.
"""

import json
import math
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(os.environ["SCRIPTED_FOLDER"])
SCRIPT = json.loads((FOLDER / "script.json").read_text())
ONE_BY_ONE = threading.Lock()
LOGPROB = SCRIPT.get("logprob", -math.log(8))
state = {"version": "default"}


def note(row):
    with (FOLDER / "calls.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def turn(path):
    """What this call does. Counted over all lives of the server."""
    done = [json.loads(line) for line in (FOLDER / "calls.jsonl").read_text().splitlines()]
    before = sum(row.get("path") == path for row in done)
    acts = SCRIPT.get(path, [])
    return acts[before] if before < len(acts) else SCRIPT.get("then", {}).get(path, "ok")


def answer(path, body):
    if path == "/weight_info":
        return {"weight_version": SCRIPT.get("version", state["version"])}
    if path == "/update_weight_version":
        state["version"] = body["new_version"]
    if path == "/version":
        return {"version": "0.32.0"}
    if path == "/v1/completions" and "prompt_logprobs" in body:
        return {"choices": [{"prompt_logprobs": [None, *({str(i): {"logprob": LOGPROB}} for i in body["prompt"][1:])]}]}
    if path == "/v1/completions":
        row = {"token_ids": [3, 4, 2], "logprobs": {"token_logprobs": [LOGPROB] * 3}, "finish_reason": "stop"}
        return {"choices": [{"index": index, **row} for index in range(body["n"])]}
    return {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({})

    def do_POST(self):
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def reply(self, body):
        path = self.path.partition("?")[0]
        with ONE_BY_ONE:  # calls come side by side, and each has a turn of its own
            act = turn(path)
            if path != "/health":
                note({"path": path, "body": body, "act": act})
        if act == "die":
            print("the script says: die", flush=True)
            os._exit(3)
        if act == "hang":
            time.sleep(60)
        found = {"choices": [{"text": "?"}]} if act == "strange" else answer(path, body)
        payload = json.dumps(found).encode()
        self.send_response(int(act) if act.isdigit() else 200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        """Quiet."""


if __name__ == "__main__":
    note({"start": sys.argv[1:]})
    if SCRIPT.get("start") == "die":
        sys.exit("no such model")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
