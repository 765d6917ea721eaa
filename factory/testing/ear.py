"""A named pipe on which verifiers can tell a test something: their workers cannot write files outside their scratch folder."""

from __future__ import annotations

import os
from pathlib import Path


class Ear:
    """Hears what is said with `tell`. Make it before the pool starts."""

    def __init__(self, path: Path) -> None:
        """Raises FileExistsError when something has that path."""
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def heard(self) -> str:
        """What was said since the last time."""
        parts: list[bytes] = []
        while True:
            try:
                part = os.read(self._descriptor, 4096)
            except BlockingIOError:
                part = b""
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


def tell(path: str, text: str) -> None:
    """Say something to the `Ear` at this path (at most a pipe's buffer, or it waits)."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
