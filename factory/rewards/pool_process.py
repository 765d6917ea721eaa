"""The parent's side of one worker: start it, send it calls, read its replies, kill it for good."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.contracts import Sample
from factory.rewards.pool_isolation import remove_tree
from factory.rewards.pool_progress import Progress
from factory.rewards.pool_wire import MAX_REPLY, FrameReader, Ready, pack_frame

_CHUNK = 1 << 20
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|PRIVATE_KEY", re.IGNORECASE)
_MARK = "FACTORY_POOL_WORKER"
"""Environment variable that all processes of one worker share."""
_WORKER_ENV = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
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


def _sample_row(sample: Sample) -> dict[str, Any]:
    """As `Sample.to_json`; paths of media are absolute, because a worker has a working folder of its own."""
    row = sample.to_json()
    for media in row["media"]:
        if media.get("path") is not None:
            media["path"] = os.path.abspath(media["path"])
    return row


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. `calls` holds, by number and in order, what it was sent and has not answered."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    output: Any
    """Temporary file with the worker's stdout and stderr."""
    progress: Progress
    scratch: Path
    """The worker's working and temporary folder; removed with it."""
    mark: str
    reader: FrameReader = field(default_factory=lambda: FrameReader(MAX_REPLY))
    ready: Ready | None = None
    calls: dict[int, Call] = field(default_factory=dict)
    recalled: set[int] = field(default_factory=set)
    """Numbers of calls that were given to another worker before this one began them; its replies to them are dropped."""
    first: int | None = None
    """Number of the first call that it was ever sent."""
    num_sent: int = 0
    num_done: int = 0
    has_leftovers: bool = False
    """Threads or children of its calls are still about, which may disturb later ones."""
    since: float = field(default_factory=time.monotonic)
    """Monotonic time of its start, its last batch, or its last reply."""
    last_running: tuple[int, float, bool] = (-1, 0.0, False)
    """What `running` said when the worker was killed."""
    _outbox: bytearray = field(default_factory=bytearray)
    _seen: tuple[int, float] = (-1, 0.0)
    _descriptor: int | None = None
    """A pidfd of the process that runs the verifiers, when that is not `process` itself."""

    @classmethod
    def start(cls, pack: str, memory_mib: int, *, network: bool = False) -> WorkerProcess:
        """Start a fresh interpreter. Nothing of the caller's `__main__` is imported."""
        ours, theirs = socket.socketpair()
        output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by last_output)
        progress, shared = Progress.create()
        scratch = Path(tempfile.mkdtemp(prefix="factory-pool-"))
        mark = uuid.uuid4().hex
        command = [
            sys.executable, "-m", "factory.rewards.pool_worker", str(theirs.fileno()), str(shared), str(os.getpid()),
            str(memory_mib), "network" if network else "-", str(scratch), pack,
        ]  # fmt: skip
        environment = worker_environment() | {"TMPDIR": str(scratch), _MARK: mark} | ({} if network else {"HF_HUB_OFFLINE": "1"})
        try:
            # A session of its own: Ctrl-C stays with the conductor, and the whole group can be killed at once.
            process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(), shared), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            output.close()
            raise
        finally:
            theirs.close()
            os.close(shared)
        ours.setblocking(False)
        return cls(process, ours, output, progress, scratch, mark)

    @property
    def pid(self) -> int:
        """The process that runs the verifiers."""
        return self.ready.pid if self.ready is not None else self.process.pid

    @property
    def is_busy(self) -> bool:
        """Starting, or with calls that it has not answered."""
        return self.ready is None or bool(self.calls) or bool(self.recalled)

    @property
    def has_unsent(self) -> bool:
        """True while part of a batch waits for room in the socket."""
        return bool(self._outbox)

    def became_ready(self, ready: Ready) -> None:
        """It has loaded the pack."""
        self.ready, self.since = ready, time.monotonic()
        if ready.pid != self.process.pid and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or the kernel has no pidfd: the group is killed
                self._descriptor = os.pidfd_open(ready.pid)

    def send(self, batch: Sequence[tuple[int, Call]]) -> None:
        """Send numbered calls; each sample goes once. Never blocks: what the socket does not take now, `flush` sends later."""
        index: dict[int, int] = {}
        samples: list[dict[str, Any]] = []
        rows = []
        if not self.is_busy:
            self.since = time.monotonic()
        for number, call in batch:
            if id(call.sample) not in index:
                index[id(call.sample)] = len(samples)
                samples.append(_sample_row(call.sample))
            rows.append([number, call.verifier, call.completion, index[id(call.sample)]])
            self.calls[number] = call
        if self.first is None:
            self.first = batch[0][0]
        self.num_sent += len(batch)
        self._outbox += pack_frame({"samples": samples, "calls": rows})
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes. A worker that is gone shows when its socket is read."""
        try:
            while self._outbox:
                del self._outbox[: self.channel.send(self._outbox[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()

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
            yield from self.reader.feed(chunk)
            if len(chunk) < _CHUNK:
                return

    def running(self) -> tuple[int, float, bool]:
        """(number, monotonic time of its begin, whether the worker says that it has begun) of the call that is running.

        A number counts only if it was sent and comes after the one seen before, and a time only between the last sign of life
        and now. Without one, the first call not answered is meant, since the last sign of life.
        """
        first = min((*self.recalled, *itertools.islice(self.calls, 1)), default=-1)
        number, begun = self.progress.read(first)
        if number > self._seen[0] and (number in self.calls or number in self.recalled):
            self._seen = number, min(max(begun, self.since), time.monotonic())
        number, begun = self._seen
        if number in self.calls or number in self.recalled:
            return number, begun, True
        return first, self.since, False

    def kill(self, *, grace_s: float = 0.0) -> int:
        """Kill the worker and all that it started (SIGKILL cannot be ignored). Returns the exit status; negative is a signal.

        `grace_s` lets a worker that has closed its socket end by itself first, so that its own exit status is seen.
        """
        try:
            self.process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self._kill_inner()
        if self.process.poll() is None:
            self.process.kill()
        # The group outlives its leader while a child of the worker is left; if none is, there is no such process.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.channel.close()
        self.last_running = self.running()
        self.progress.close()
        code = self.process.wait()
        if self._descriptor is not None:
            select.select([self._descriptor], [], [], 5.0)  # readable when the namespace is empty
            os.close(self._descriptor)
            self._descriptor = None
        if self.ready is None or self.ready.processes != "namespace":
            _kill_marked(self.mark)
        remove_tree(self.scratch)
        return code

    def _kill_inner(self) -> None:
        """Kill the first process of the namespace; the one that waits for it outside then ends by itself."""
        if self._descriptor is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5.0)

    def last_output(self) -> str:
        """Last line that the worker printed, at most 300 characters. Call after `kill`."""
        with self.output:
            size = self.output.seek(0, os.SEEK_END)
            self.output.seek(max(0, size - 2000))
            lines = self.output.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


def _kill_marked(mark: str) -> None:
    """Kill what left the worker's group: every process whose environment carries the worker's mark."""
    wanted = f"{_MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue  # ended meanwhile, or not ours to look at


def describe_exit(code: int) -> str:
    """`exit status 3` or `signal SIGSEGV`."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
