"""Workers forked from one process that has loaded the slow libraries: a step begins in milliseconds, not after seconds of imports.

The conductor holds a `ForkServer`. The server itself is

    python -m factory.launch.forks MODULE

and for each line of JSON on its standard input forks a child that does what `python -m MODULE JOB` does: a session of its own, output
at the end of a file, killed when its parent dies. Before it forks for a job that says so, it calls MODULE.load_ahead(), once. One
job at a time. Its answers, a line each: {"pid": N} when the child has its session, {"code": N} when it has ended.

On Linux without GPUs: a process that has touched CUDA must not fork. Nothing that is loaded ahead may start a thread.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from factory.launch.guard import command_under_guard, die_with_parent
from factory.redaction import RedactedStream


def can_fork(num_gpus: int) -> bool:
    """Whether workers can be forked on this machine."""
    return sys.platform.startswith("linux") and num_gpus == 0


class ForkServer:
    """The conductor's side. The server starts with the first worker, starts anew when it has died, and dies with the conductor.

    Args:
        module: has `main(job: Path) -> int` and `load_ahead()`.
        env: environment of server and workers.
        held_fds: open files that both inherit.
    """

    def __init__(self, module: str, *, env: Mapping[str, str], held_fds: Sequence[int] = ()) -> None:
        self._command = command_under_guard([sys.executable, "-m", "factory.launch.forks", module])
        self._env, self._held_fds = dict(env), tuple(held_fds)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, job: Path, log_path: Path, *, loads_ahead: bool) -> Fork:
        """Fork a worker for a job file; `loads_ahead` when the job is known to need what MODULE loads ahead."""
        if self._server is None or self._server.poll() is not None:
            with log_path.open("ab") as output:
                self._server = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, env=self._env,
                    start_new_session=True, pass_fds=self._held_fds, bufsize=0,
                )  # fmt: skip
        request = {"job": str(job), "log": str(log_path), "ahead": loads_ahead}
        with suppress(BrokenPipeError):  # it has died just now; the worker's first poll says how
            self._server.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
        return Fork(self._server)

    def close(self) -> None:
        """End the server, and a worker that still runs; its `Fork` cannot be asked any more."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            for pipe in (self._server.stdin, self._server.stdout):
                pipe.close()  # type: ignore[union-attr]
            self._server = None


class Fork:
    """One forked worker, with what `run_worker` needs of a Popen."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._server, self._said = server, b""
        self._child: int | None = None
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """The worker, which leads a group of its own; while the server still loads, the server, which leads one too."""
        return self._server.pid if self._child is None else self._child

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        while self.returncode is None and select.select([self._server.stdout], [], [], 0)[0]:
            self._read()
        return self.returncode

    def wait(self) -> int:
        """Exit status once it has one."""
        while self.returncode is None:
            self._read()
        return self.returncode

    def _read(self) -> None:
        """Take in what the server says next. Its own end is the worker's too, which dies with it."""
        found = os.read(self._server.stdout.fileno(), 4096)  # type: ignore[union-attr]
        if not found:
            self.returncode = self._server.wait()
            return
        *lines, self._said = (self._said + found).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._child = answer.get("pid", self._child)
            self.returncode = answer.get("code")


def _serve(module: ModuleType, requests: BinaryIO, answers: int) -> int:
    """Answer requests until there are no more; in a forked child, the exit status of its job."""
    server, is_loaded = os.getpid(), False
    while line := requests.readline():
        request = json.loads(line)
        _write_into(Path(request["log"]))  # what goes wrong while libraries load belongs to the job that asks for them
        if request["ahead"] and not is_loaded:
            gc.disable()  # a fifth of the load otherwise: it looks again and again through what stays
            module.load_ahead()
            is_loaded = True
            gc.enable()
            gc.collect()
            gc.freeze()  # children share what is loaded; their collector must not touch, and so copy, all of it
        child = os.fork()
        if child == 0:
            _settle(server, answers)
            return int(module.main(Path(request["job"])))
        _, status = os.waitpid(child, 0)
        _answer(answers, code=os.waitstatus_to_exitcode(status))
    return 0


def _write_into(log: Path) -> None:
    """Append what this process and its children print to a file."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for target in (1, 2):
        os.dup2(output, target)
    os.close(output)


def _settle(server: int, answers: int) -> None:
    """Make the forked child a worker, with its own session and nothing to read. The protocol's files are closed to it."""
    die_with_parent(server)
    os.setsid()
    _answer(answers, pid=os.getpid())
    os.close(answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _answer(answers: int, **said: Any) -> None:
    os.write(answers, json.dumps(said).encode() + b"\n")


def main(name: str) -> int:
    """Serve. Standard output is kept for the answers."""
    answers = os.dup(1)
    os.dup2(2, 1)
    sys.stdout, sys.stderr = RedactedStream(sys.stdout), RedactedStream(sys.stderr)  # type: ignore[assignment]
    return _serve(importlib.import_module(name), sys.stdin.buffer, answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
