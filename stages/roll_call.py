"""Before processes exchange anything they call the roll, so that a process that never comes is named with what it was last doing.

A hung collective says nothing by itself: torch ends it after half an hour with a socket error. Each process notes its phase in a small
file beside the stage's checkpoints; when somebody misses the roll call, the others read there what it is stuck in.
"""

from __future__ import annotations

import re
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from factory.errors import TrainingError

FOLDER = "phases"


class RollCall:
    """One process's part of it. Making one is collective.

    Args:
        folder: the stage's work folder, shared by all processes. timeout_s: wall seconds to wait for the others.
    """

    def __init__(self, folder: Path, rank: int, world_size: int, timeout_s: float) -> None:
        self._folder, self._rank, self._timeout_s = folder / FOLDER, rank, timeout_s
        self._phase = "the start"
        # Beside the group that trains, because NCCL has no roll call.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s)) if world_size > 1 else None
        self.enter(self._phase)

    def enter(self, phase: str) -> None:
        """Note what this process does from now on."""
        self._phase = phase
        if self._group is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file(self._rank).write_text(f"{time.time():.0f}\n{phase}\n", encoding="utf-8")

    def call(self) -> None:
        """Return when every process has come here.

        Raises:
            TrainingError: one has not within the time; names it and the phase it is in.
        """
        if self._group is None:
            return
        # The first process sees who is missing; the others, which see only the first, let it speak before them.
        seconds = self._timeout_s if self._rank == 0 else 1.25 * self._timeout_s + 5.0
        try:
            dist.monitored_barrier(self._group, timeout=timedelta(seconds=seconds), wait_all_ranks=True)
        except RuntimeError as err:
            missing = self._missing(str(err))
            told = "; ".join(f"rank {rank} is in {self._told_by(rank)}" for rank in missing) or str(err)
            raise TrainingError(
                f"{self._phase}: rank {self._rank} waited {self._timeout_s:g} s for the other processes. Missing: {told}. "
                "Look for that rank in the stage's log.txt (a stuck reward, a full disk, a dead node); raise launch.collective_timeout_s "
                "if it is only slow. The same command resumes from the last checkpoint."
            ) from err

    def _missing(self, message: str) -> list[int]:
        """Ranks that torch's message names as not having come. The first process sees all of them, the others only the first process."""
        found = re.search(r"Ranks? ([\d, ]+) failed to pass", message) if self._rank == 0 else None
        return [int(number) for number in re.findall(r"\d+", found[1])] if found else [0] if self._rank else []

    def _told_by(self, rank: int) -> str:
        try:
            since, phase = self._file(rank).read_text(encoding="utf-8").splitlines()[:2]
            return f"'{phase}' for {max(0.0, time.time() - float(since)):.0f} s"
        except (OSError, ValueError) as err:
            return f"an unknown phase ({type(err).__name__})"

    def _file(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05d}"
