"""Follow a metrics.jsonl while another process writes it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class MetricsTail:
    """New whole rows since the last look.

    Args:
        is_resumed: the file holds rows of an earlier session; those are not shown again (the worker cuts the file back to
            its checkpoint first, and what it writes after that is new).
    """

    def __init__(self, path: Path, *, is_resumed: bool = False) -> None:
        self.path = path
        self._offset = path.stat().st_size if is_resumed and path.is_file() else 0

    def new_rows(self) -> list[dict[str, Any]]:
        """Rows completed since the last call; [] when there are none."""
        if not self.path.is_file():
            return []
        size = self.path.stat().st_size
        # The worker cut the file back to its checkpoint.
        self._offset = min(self._offset, size)
        with self.path.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read(size - self._offset)
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [row for line in whole.splitlines() if (row := _parse(line)) is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    """A row cut by a truncation reads as broken JSON; rows are only shown, so it is left out."""
    try:
        row = json.loads(line)
    except ValueError:
        log.debug("left out a torn metrics row: %r", line[:80])
        return None
    return row if isinstance(row, dict) else None
