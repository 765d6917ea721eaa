"""Which call a worker is running and since when, in memory that it shares with the pool: no message per call is needed.

Both stand in one aligned word of 64 bits, which a processor writes and reads whole. In two fields, the pool could read a new
number beside the time of an older call, and take a call that has just begun for one that is over its limit.

A verifier may write nonsense there; the pool believes no number outside of what it sent, and no time before it sent it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time

_SIZE = 8
_NUMBER_BITS = 24
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
"""Low bits of the call's number; the milliseconds stand above them, and reach for 34 years of uptime."""
_TIME_MASK = (1 << 64 - _NUMBER_BITS) - 1
_TICKS = 1000


class Progress:
    """Number of the running call, and the monotonic time at which it began (one clock for all processes of a machine)."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._word = memoryview(self._memory).cast("Q")

    @classmethod
    def create(cls) -> tuple[Progress, int]:
        """A new record and the descriptor of its file, to be handed to the worker and then closed."""
        with tempfile.TemporaryFile() as file:
            file.write(bytes(_SIZE))
            file.flush()
            return cls(file.fileno()), os.dup(file.fileno())

    def begin(self, number: int) -> float:
        """Write down that call `number` begins now. Returns that time."""
        now = time.monotonic()
        # Rounded up: a call never seems to have begun before it did.
        self._word[0] = ((int(now * _TICKS) + 1 & _TIME_MASK) << _NUMBER_BITS) | (number & _NUMBER_MASK)
        return now

    def read(self, lowest: int) -> tuple[int, float]:
        """(number, monotonic time in seconds, to the millisecond) of the call last begun; (-1, 0) before the first.

        `lowest` is the lowest number that it can be; the number given is less than 2^24 above it.
        """
        word = self._word[0]
        return (lowest + ((word - lowest) & _NUMBER_MASK), (word >> _NUMBER_BITS) / _TICKS) if word else (-1, 0.0)

    def close(self) -> None:
        """Let go of the memory."""
        self._word.release()
        self._memory.close()
