"""Stopping a stage at the next step: who wants it stopped leaves a file in its folder, the stage writes a checkpoint and ends.

A file, not a signal: launchers (torchrun, srun) die of signals that they do not know, and on a cluster the stage's main process
may run on another machine, which shares the folder and nothing else.
"""

from __future__ import annotations

from pathlib import Path

FILE_NAME = "stop-at-next-step"


def ask_to_stop(workdir: Path) -> None:
    """Ask the stage that works in `workdir` to write a checkpoint after its present step and to end as interrupted."""
    (workdir / FILE_NAME).touch()


def is_asked_to_stop(workdir: Path) -> bool:
    """True once `ask_to_stop` was called."""
    return (workdir / FILE_NAME).exists()


def forget(workdir: Path) -> None:
    """Take the wish back: before a stage begins or when it was granted."""
    (workdir / FILE_NAME).unlink(missing_ok=True)
