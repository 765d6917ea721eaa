"""`factory` as the documentation's commands meet it in tests: builds and evals cut to a few steps, their stages done in one process.

    python tests/docs/small_factory.py SOCKET                               # loads the libraries once, then waits
    python tests/docs/small_factory.py SOCKET build --domain pathology      # one command, in a fork of that process

Only numbers change (samples, lessons, steps, lengths), by settings laid over the command's own; everything else is the command itself.
A fork has the libraries already, whose import would take longer than what most commands do.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FEW: dict[str, dict[str, Any]] = {
    "cpt": {"documents": 16, "epochs": 1, "batch_size": 8},
    "sft": {"lessons": 16, "epochs": 2, "batch_size": 8},
    "expert": {"lessons": 16, "epochs": 1, "batch_size": 8},
    "rl": {"num_steps": 1, "samples": 16, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 16, "minibatches": 1},
    "select": {"samples": 16, "rollouts": 4, "max_new_tokens": 16},
    "preference": {"pairs": 8, "epochs": 1, "batch_size": 4},
    "reward_model": {"pairs": 8, "epochs": 1, "batch_size": 4},
}
"""Stage kind -> settings of the few steps."""
LOADED = (
    "transformers",
    "accelerate",
    "peft",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
)
EVAL = {"samples": 6, "validation_samples": 6, "max_new_tokens": 16, "blind": "false", "probes": "false", "bootstrap": 50}


def small(words: Sequence[str]) -> list[str]:
    """The command line with the settings that make it small; as it is when the command trains and measures nothing."""
    if words[:1] == ["build"]:
        return [*words, *_sets([*_eval(), *_stages(words[1:])])]
    if words[:1] == ["eval"] and "--suite" not in words:
        return [*words, *_sets(_eval())]
    return list(words)


def processes(words: Sequence[str]) -> int:
    """Processes of each training stage that the command asks for."""
    return max((int(word.split("=")[1]) for word in words if word.startswith("launch.processes=")), default=1)


def _eval() -> list[str]:
    return [f"eval.{key}={value}" for key, value in EVAL.items()]


def _stages(words: Sequence[str]) -> list[str]:
    import typer

    from factory.cli import options
    from factory.cli.app import app

    given = typer.main.get_command(app).commands["build"].make_context("build", list(words)).params
    composed = options.composed_from(
        given["domain"], given["recipe"], given["base"], given["data"], given["overrides"], given["seed"], given["online"], given["config"], given["mix"]
    )  # fmt: skip
    found = []
    for name, stage in composed.config.stages.items():
        found += [f"stages.{name}.{key}={value}" for key, value in FEW.get(stage.kind, {}).items()]
    return found


def _sets(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def run(words: list[str]) -> int:
    """Run one command line in this process; its exit code."""
    from factory.cli import app

    if words[:1] not in (["build"], ["eval"]) or processes(words) > 1:
        return app.run(small(words) if words[:1] in (["build"], ["eval"]) else words)
    sys.path.insert(0, str(ROOT / "tests" / "pipeline"))
    in_process = import_module("in_process").in_process
    with in_process():
        return app.run(small(words))


def serve(address: str) -> None:
    """Load the libraries, then fork for every command line that comes with its folder, environment and standard streams. Never returns."""
    for name in LOADED:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        while True:
            caller, _ = door.accept()
            told, streams, _, _ = socket.recv_fds(caller, 1 << 20, 3)
            if os.fork() == 0:
                door.close()
                _answer(caller, json.loads(told), streams)
            caller.close()
            for stream in streams:
                os.close(stream)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                continue


def _answer(caller: socket.socket, job: dict[str, Any], streams: list[int]) -> None:
    """Be the command: its streams, folder and environment; tell the caller how it ended."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    code = 70
    try:
        code = run(job["words"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(bytes([code]))
        os._exit(code)


def call(address: str, words: list[str]) -> int:
    """Have the command done; its exit code."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        told = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(line, [json.dumps(told).encode()], [0, 1, 2])
        return (line.recv(1) or b"\x46")[0]


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    if not rest:
        serve(where)
    sys.exit(run(rest) if rest[0] == "serve" else call(where, rest))
