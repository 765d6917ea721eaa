"""Every moment at which a process changes names or durability on the disk, as a place where something can go wrong."""

from __future__ import annotations

import datetime
import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir", "truncate", "symlink")
"""Functions of `os` through which pathlib, shutil, tempfile and the product go."""
DISK_FAULTS = {"full": errno.ENOSPC, "quota": errno.EDQUOT, "input/output": errno.EIO, "read-only": errno.EROFS}


def at_each(act: Callable[[int, str], None]) -> None:
    """Call `act(number, name)` before each of CALLS in this process (not its children) from now on; numbers begin at 1."""
    count, owner = 0, os.getpid()

    def patched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if os.getpid() == owner:
                count += 1
                act(count, name)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, patched(name, getattr(os, name)))


def note(path: Path) -> None:
    """Append the name of each boundary to a file, to know how many there are."""

    def act(_: int, name: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{name}\n".encode())
        os.close(handle)

    at_each(act)


def kill_at(number: int, mark: Path) -> None:
    """kill -9 of this process before that boundary; `mark` is left to tell that it came to it."""

    def act(count: int, name: str) -> None:
        if count == number:
            mark.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    at_each(act)


def fail_at(number: int, fault: str, mark: Path, *, lasts: bool) -> None:
    """The disk refuses that boundary (and all after it with `lasts`)."""

    def act(count: int, name: str) -> None:
        if name not in ("unlink", "rmdir") and (count == number or (lasts and count > number)):
            mark.touch()
            raise OSError(DISK_FAULTS[fault], os.strerror(DISK_FAULTS[fault]))

    at_each(act)


def slow(seconds: float) -> None:
    """Each boundary takes so much longer."""
    at_each(lambda *_: time.sleep(seconds))


def jump_clock(seconds: float, *, after: int) -> None:
    """The clock of the day (not the monotonic one) jumps at that boundary."""
    real_time, real_ns, shift = time.time, time.time_ns, [0.0]

    class Jumped(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime.fromtimestamp(real_time() + shift[0], tz)

    import factory.pipeline.record as record

    time.time = lambda: real_time() + shift[0]
    time.time_ns = lambda: real_ns() + int(shift[0] * 10**9)
    record.datetime = Jumped

    def act(count: int, _: str) -> None:
        if count == after:
            shift[0] = seconds

    at_each(act)
