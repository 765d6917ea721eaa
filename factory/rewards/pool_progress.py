"""Which call a worker is running and since when, in memory that it shares with the pool: no message per call is needed.

A verifier may write nonsense there; the pool believes no number outside of what it sent, and no time before it sent it.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time

_RECORD = struct.Struct("<qd")
_NOTHING = -1


class Progress:
    """Number of the running call, and the monotonic time at which it began (one clock for all processes of a machine)."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _RECORD.size)

    @classmethod
    def create(cls) -> tuple[Progress, int]:
        """A new record and the descriptor of its file, to be handed to the worker and then closed."""
        with tempfile.TemporaryFile() as file:
            file.write(_RECORD.pack(_NOTHING, 0.0))
            file.flush()
            return cls(file.fileno()), os.dup(file.fileno())

    def begin(self, number: int) -> float:
        """Write down that call `number` begins now. Returns that time."""
        now = time.monotonic()
        _RECORD.pack_into(self._memory, 0, number, now)
        return now

    def read(self) -> tuple[int, float]:
        """(number, monotonic time); -1 before the first call."""
        return _RECORD.unpack_from(self._memory, 0)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
