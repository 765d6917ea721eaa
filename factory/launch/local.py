"""Start a worker on this machine, one process directly or several through torchrun; supervise it, and leave nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from factory.launch.guard import command_under_guard

log = logging.getLogger(__name__)

POLL_S = 0.05
GRACE_S = 30.0
"""Seconds a worker gets to stop after SIGTERM."""


@dataclass(frozen=True)
class Exit:
    """How a worker ended."""

    code: int
    """Exit status; negative is the number of the signal that killed it."""
    was_interrupted: bool
    """True when the conductor was asked to stop meanwhile."""

    @property
    def signal_name(self) -> str | None:
        """`SIGKILL` and so on when a signal ended it. torchrun reports a killed rank by its own status, which is no signal."""
        if self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


def worker_command(module: str, arguments: Sequence[str], processes: int) -> list[str]:
    """The command line of a worker: plain Python for one process, torchrun on a free local port for more."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes", "1", "--nproc-per-node", str(processes),
        "-m", module, *arguments,
    ]  # fmt: skip


class Worker(Protocol):
    """A running process: a Popen, or a fork of a `ForkServer`."""

    returncode: int | None

    @property
    def pid(self) -> int:
        """Its number, and that of the process group it leads."""
        ...

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        ...

    def wait(self) -> int:
        """Exit status once it has one."""
        ...


def start_worker(command: Sequence[str], *, env: Mapping[str, str], log_path: Path, held_fds: Sequence[int] = ()) -> Worker:
    """Start a command in its own process group, with output appended to `log_path`.

    Must be called from the thread that lives as long as the worker should: the kernel kills it when that thread ends.

    Args:
        held_fds: open files the worker inherits (the run's lock: it is free only when conductor and worker are both gone).
    """
    with log_path.open("ab") as output:
        return subprocess.Popen(
            command_under_guard(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(env),
            start_new_session=True, pass_fds=tuple(held_fds),
        )  # fmt: skip


def run_worker(start: Callable[[], Worker], *, on_poll: Callable[[], None], stop: StopFlag) -> Exit:
    """Start a worker and wait for its end. Nothing of its process group is left then.

    Args:
        on_poll: called about 20 times a second.
        stop: when it is raised, the worker gets SIGTERM, after GRACE_S (or a second request) SIGKILL.
    """
    process = start()
    try:
        asked_at: float | None = None
        while process.poll() is None:
            on_poll()
            if stop.count and asked_at is None:
                asked_at = time.monotonic()
                _signal_group(process.pid, signal.SIGTERM)
            if asked_at is not None and (stop.count > 1 or time.monotonic() - asked_at > GRACE_S):
                _signal_group(process.pid, signal.SIGKILL)
            time.sleep(POLL_S)
        on_poll()
        return Exit(process.wait(), bool(stop.count))
    finally:
        # Children of a worker that was killed (verifier processes, other ranks) must not outlive it.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        log.debug("process group %d is gone already", group)


class StopFlag:
    """Counts requests to stop (Ctrl-C, SIGTERM), and remembers whether it was asked to make room (SIGUSR1)."""

    def __init__(self) -> None:
        self.count = 0
        self.is_preempted = False

    def ask(self, *_: Any) -> None:
        """Ask to stop; usable as a signal handler."""
        self.count += 1

    def preempt(self, *_: Any) -> None:
        """Ask to stop at the next checkpoint; usable as a signal handler."""
        self.is_preempted = True


@contextmanager
def caught_signals(stop: StopFlag) -> Iterator[None]:
    """While inside, SIGINT, SIGTERM and SIGUSR1 only raise `stop`. Outside the main thread signals are left as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop.ask)
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, stop.preempt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
