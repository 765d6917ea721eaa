"""The process of a local judge: `python -m factory.rewards.judges.child SOCKET_FD MODULE:FACTORY SETTINGS_JSON`."""

from __future__ import annotations

import importlib
import json
import socket
import sys
from typing import Any

from factory.contracts import Message, Sample
from factory.rewards.judges.settings import JudgeSettings


def answer(model: Any, request: dict[str, Any]) -> Any:
    """One reply: a text to messages, a number to a sample and a completion."""
    if "messages" in request:
        return model.complete([Message(row["role"], row["content"]) for row in request["messages"]])
    return model.score(request["completion"], Sample.from_json(request["sample"]))


def main(argv: list[str]) -> int:
    """Serve until the socket closes."""
    channel = socket.socket(fileno=int(argv[0]))
    module, _, name = argv[1].partition(":")
    reader, writer = channel.makefile("r", encoding="ascii"), channel.makefile("w", encoding="ascii")

    def send(**reply: Any) -> None:
        writer.write(json.dumps(reply) + "\n")
        writer.flush()

    try:
        model = getattr(importlib.import_module(module), name)(JudgeSettings(**json.loads(argv[2])))
    except Exception as err:  # told to the parent, which refuses the judge
        send(failed=f"{type(err).__name__}: {err}"[:2000])
        return 1
    send(ready=True)
    for line in reader:
        try:
            reply = {"answer": answer(model, json.loads(line))}
        except Exception as err:  # one call's failure: the parent masks its rollout
            reply = {"failed": f"{type(err).__name__}: {err}"[:2000]}
        send(**reply)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
