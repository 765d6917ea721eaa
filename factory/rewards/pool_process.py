"""The parent's side of one worker: start it, send it calls, read its replies, kill it for good."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Sample
from factory.rewards.pool_wire import FrameReader, pack_frame

_CHUNK = 1 << 20
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|PRIVATE_KEY", re.IGNORECASE)
_WORKER_ENV = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1",
}  # fmt: skip
"""One thread; no accelerator; sets iterate in the same order in every worker."""


@dataclass(slots=True)
class Call:
    """One verifier to run on one completion."""

    verifier: str
    completion: str
    sample: Sample
    item: Any
    """The submitted rollout that this call belongs to."""
    cache_key: str | None = None
    num_tries: int = 0


def worker_environment() -> dict[str, str]:
    """The parent's environment without secrets, with one thread, and with the parent's import path."""
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    path = dict.fromkeys(os.path.abspath(entry) for entry in sys.path)
    return kept | _WORKER_ENV | {"PYTHONPATH": os.pathsep.join(path)}


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. `calls` holds what it was sent and has not answered; the first of them is running."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    output: Any
    """Temporary file with the worker's stdout and stderr."""
    reader: FrameReader = field(default_factory=FrameReader)
    is_ready: bool = False
    calls: list[Call] = field(default_factory=list)
    num_done: int = 0
    since: float = field(default_factory=time.monotonic)
    """Monotonic time at which the running call (or the start-up) began, as far as the parent can tell."""

    @classmethod
    def start(cls, pack: str, memory_mib: int) -> WorkerProcess:
        """Start a fresh interpreter. Nothing of the caller's `__main__` is imported."""
        ours, theirs = socket.socketpair()
        output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by last_output)
        command = [
            sys.executable, "-m", "factory.rewards.pool_worker",
            str(theirs.fileno()), str(os.getpid()), str(memory_mib), pack,
        ]  # fmt: skip
        with theirs:
            # A session of its own: Ctrl-C stays with the conductor, and the whole group can be killed at once.
            process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=worker_environment(), start_new_session=True,
            )  # fmt: skip
        ours.setblocking(False)
        return cls(process, ours, output)

    @property
    def is_idle(self) -> bool:
        """Ready and without work."""
        return self.is_ready and not self.calls

    def send(self, calls: Sequence[Call], timeout_s: float) -> None:
        """Send a batch; each sample goes once. Raises OSError when the worker does not take it."""
        index: dict[int, int] = {}
        samples: list[dict[str, Any]] = []
        rows = []
        for call in calls:
            if id(call.sample) not in index:
                index[id(call.sample)] = len(samples)
                samples.append(call.sample.to_json())
            rows.append([call.verifier, call.completion, index[id(call.sample)]])
        self.calls = list(calls)
        self.since = time.monotonic()
        self.channel.settimeout(timeout_s)
        try:
            self.channel.sendall(pack_frame({"samples": samples, "calls": rows}))
        finally:
            self.channel.setblocking(False)
        self.since = time.monotonic()

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived. Raises EOFError when the worker is gone, ValueError when it writes nonsense."""
        while True:
            try:
                chunk = self.channel.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError as err:
                raise EOFError(str(err)) from err
            if not chunk:
                raise EOFError("the worker closed its socket")
            self.since = time.monotonic()
            yield from self.reader.feed(chunk)
            if len(chunk) < _CHUNK:
                return

    def kill(self, *, grace_s: float = 0.0) -> int:
        """Kill the worker and its children (SIGKILL cannot be ignored). Returns the exit status; negative is a signal.

        `grace_s` lets a worker that has closed its socket end by itself first, so that its own exit status is seen.
        """
        try:
            self.process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        # The group outlives its leader while a child of the worker is left; if none is, there is no such process.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.channel.close()
        return self.process.wait()

    def last_output(self) -> str:
        """Last line that the worker printed, at most 300 characters. Call after `kill`."""
        with self.output:
            size = self.output.seek(0, os.SEEK_END)
            self.output.seek(max(0, size - 2000))
            lines = self.output.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


def describe_exit(code: int) -> str:
    """`exit status 3` or `signal SIGSEGV`."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
