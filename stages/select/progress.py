"""Rolled-out batches on disk, one file each: whole or not there. A killed stage rolls out only what is missing.

    checkpoints/batch-00000003.jsonl     Scored rows of the fourth batch

What a batch holds depends on its number only, so neither kills nor the number of processes change a byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from factory.errors import TrainingError
from factory.stages.lesson_files import write_rows
from factory.stages.select.rollouts import Scored

CHECKPOINTS = "checkpoints"
"""The folder by which the pipeline knows a stage that can be resumed, and which it removes when the stage is done."""
POLL_S = 0.2
Item = TypeVar("Item")


def split(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Consecutive batches of `size`; the last may be smaller."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def batch_file(workdir: Path, number: int) -> Path:
    """Where batch `number` (0-based) lies once it is whole."""
    return workdir / CHECKPOINTS / f"batch-{number:08d}.jsonl"


def missing(workdir: Path, num_batches: int) -> list[int]:
    """Numbers of the batches still to do."""
    return [number for number in range(num_batches) if not batch_file(workdir, number).is_file()]


def write_batch(workdir: Path, number: int, rollouts: Sequence[Scored]) -> None:
    """Write one batch; a kill at any moment leaves it whole or absent."""
    write_rows(batch_file(workdir, number), (rollout.to_json() for rollout in rollouts))


def read_batches(workdir: Path, num_batches: int) -> list[Scored]:
    """All rollouts in the order of the samples.

    Raises:
        TrainingError: a batch is damaged; says what to delete.
    """
    found: list[Scored] = []
    for number in range(num_batches):
        path = batch_file(workdir, number)
        try:
            found += [Scored.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise TrainingError(f"{path}: cannot be read ({err!r}). Delete the file to roll that batch out again.") from err
    return found


def wait_for_all(workdir: Path, num_batches: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return when every process has written its batches. The launcher ends this process when another one fails."""
    while missing(workdir, num_batches):
        sleep(POLL_S)
