"""`metrics.jsonl`: one JSON row per optimiser step, and the tokens-per-second meter that fills part of it.

A row's `step` is the number of optimiser steps done when it was written (the first row has step 1).
No torch here, so that the pipeline can write and read the same file.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"


def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row as a line of JSON. The line is handed to the system whole, so a kill leaves at most one torn line at the end.

    Non-finite numbers become null: `NaN` is not JSON and other readers refuse it.
    """
    plain = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
    with path.open("ab") as file:
        file.write((json.dumps(plain) + "\n").encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole rows, in order; [] when there is no file. A torn last line (a kill while writing) is left out."""
    if not path.exists():
        return []
    return [row for row, _ in _rows_and_ends(path.read_bytes())]


def truncate_metrics(path: Path, last_step: int) -> int:
    """Cut the file after the last leading row whose `step` is at most `last_step`; return the number of rows kept.

    Cuts in place: a writer that holds the file open in append mode goes on at the new end.
    """
    if not path.exists():
        return 0
    kept, end = 0, 0
    for row, row_end in _rows_and_ends(path.read_bytes()):
        if row.get("step", 0) > last_step:
            break
        kept, end = kept + 1, row_end
    os.truncate(path, end)
    return kept


def _rows_and_ends(content: bytes) -> list[tuple[dict[str, Any], int]]:
    """Each whole row with the byte offset just after its newline. Stops at the first line that is not a JSON mapping."""
    rows, end = [], 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        end += len(line)
        rows.append((row, end))
    return rows


class Throughput:
    """Tokens per second over the steps since it was made or last asked.

    Args:
        clock: seconds, monotonic; passed in so that tests need not wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_s = self._last_s = clock()

    def lap(self, num_tokens: float) -> dict[str, float]:
        """`{"tokens_per_s", "time_s"}`: rate since the last lap, and seconds since the meter was made."""
        now_s = self._clock()
        lap_s, self._last_s = now_s - self._last_s, now_s
        return {"tokens_per_s": num_tokens / max(lap_s, 1e-9), "time_s": now_s - self._start_s}
