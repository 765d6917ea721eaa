"""What becomes of an optimiser step that must not be taken: skip it and count, then roll back with a smaller step, then stop.

A step is bad when its loss or gradient is not finite or, where `optim.spike_ratio` asks for it, when its gradient norm is that
many times the median of the last NORMS good ones. It changes no weights. `optim.bad_steps` of them in a row end the attempt:
the stage starts again in a new process from its last checkpoint (or its start), with every learning rate times
`optim.rollback_lr_scale`. After `optim.max_rollbacks` of those it stops.

No checkpoint is made while the last step was bad, so the last checkpoint is a good one. Counts lie in the checkpoints, the number
of rollbacks beside them: a stage that is killed at any moment does the same again.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.config.schema import OptimConfig
from factory.errors import ConfigError, RegistryError, RolledBack, TrainingError
from factory.registry.files import read_json, write_json

log = logging.getLogger(__name__)
FILE_NAME = "setbacks.json"
"""In `checkpoints/`: how often the stage was rolled back, and why."""
NORMS, FEWEST_NORMS = 32, 8
"""Good gradient norms that a spike is held against, at most and at least."""


class Setbacks:
    """Counts bad steps of one stage and decides what follows.

    Args:
        folder: the stage's `checkpoints/`.
    """

    def __init__(self, optim: OptimConfig, folder: Path) -> None:
        check(optim)
        self._optim, self._folder = optim, folder
        self.num_skipped = self.streak = 0
        self._norms: list[float] = []
        self._rollbacks: list[dict[str, Any]] = []

    @property
    def is_sound(self) -> bool:
        """True when the last step was taken; only then is a checkpoint made."""
        return self.streak == 0

    @property
    def lr_scale(self) -> float:
        """What every learning rate is multiplied by; exactly 1 until the first rollback."""
        return float(self._optim.rollback_lr_scale ** len(self._rollbacks))

    def fault(self, loss: float, norm: float) -> str:
        """What is wrong with a step of this loss and gradient norm; empty when nothing is."""
        for what, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"the {what} is {value}"
        if self._optim.spike_ratio and len(self._norms) >= FEWEST_NORMS:
            usual = statistics.median(self._norms)
            if norm > self._optim.spike_ratio * usual:
                return f"the gradient norm is {norm:.3g}, above optim.spike_ratio={self._optim.spike_ratio:g} times its median {usual:.3g}"
        return ""

    def good(self, norm: float) -> None:
        """A step was taken."""
        self.streak = 0
        if self._optim.spike_ratio:
            self._norms = [*self._norms, norm][-NORMS:]

    def bad(self, step: int, total: int, fault: str, *, is_main: bool, can_skip: bool = True) -> None:
        """A step was not taken; returns when training simply goes on.

        Args:
            can_skip: False where the step could not be held back (DeepSpeed); it is rolled back at once.

        Raises:
            RolledBack: the stage has to start again from its last checkpoint; noted on disk by the main process.
            TrainingError: it was rolled back as often as allowed.
        """
        self.num_skipped += 1
        self.streak += 1
        log.warning("step %d of %d: %s; the step is skipped (%d in a row)", step, total, fault, self.streak)
        if can_skip and self.streak < self._optim.bad_steps:
            return
        limit, times = self._optim.max_rollbacks, len(self._rollbacks)
        if times >= limit:
            again = f" after {times} rollbacks with smaller steps" if times else ""
            raise TrainingError(
                f"step {step} of {total}: {fault}, {self.streak} bad step{'s' * (self.streak > 1)} in a row{again}; the weights were left as "
                "they were. Lower optim.lr, lengthen optim.warmup_steps or set precision=fp32, and look at the rows of this step; "
                "the same command resumes from the last checkpoint."
            )
        self._rollbacks.append({"step": step, "fault": fault})
        if is_main:
            write_json(self._folder / FILE_NAME, {"rollbacks": self._rollbacks})
        raise RolledBack(
            f"step {step} of {total}: {fault}, {self.streak} bad step{'s' * (self.streak > 1)} in a row. Rolled back to the last checkpoint "
            f"with {self.lr_scale:g} times the learning rate (rollback {times + 1} of {limit}); the same command goes on from there."
        )

    def told(self) -> dict[str, Any]:
        """For the stage's metrics: `{"setbacks": {"skipped_steps", "rollbacks", "lr_scale"}}`, or nothing when there were none."""
        if not self.num_skipped and not self._rollbacks:
            return {}
        return {"setbacks": {"skipped_steps": self.num_skipped, "rollbacks": len(self._rollbacks), "lr_scale": self.lr_scale}}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"num_skipped": self.num_skipped, "norms": self._norms}

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Take up the counts of a checkpoint (None: from the start) and the rollbacks noted beside it.

        Raises:
            TrainingError: the note is damaged.
        """
        self.num_skipped, self._norms, self.streak = 0, [], 0
        if state is not None:
            self.num_skipped, self._norms = int(state["num_skipped"]), list(state["norms"])
        path = self._folder / FILE_NAME
        try:
            self._rollbacks = [dict(row) for row in read_json(path)["rollbacks"]] if path.exists() else []
        except (RegistryError, KeyError, TypeError, ValueError) as err:
            raise TrainingError(
                f"{path}: cannot be read ({err}). Delete {self._folder} to train the stage from its start."
            ) from err
        if self._rollbacks:
            log.warning("rolled back %d times so far; learning rates are times %g", len(self._rollbacks), self.lr_scale)


def check(optim: OptimConfig) -> None:
    """Refuse settings that mean nothing. Raises ConfigError with the key."""
    if optim.bad_steps < 1 or optim.max_rollbacks < 0:
        raise ConfigError(
            f"optim.bad_steps={optim.bad_steps}, optim.max_rollbacks={optim.max_rollbacks}: give at least 1 and at least 0."
        )
    if not 0 < optim.rollback_lr_scale <= 1:
        raise ConfigError(f"optim.rollback_lr_scale is {optim.rollback_lr_scale}; give a share above 0, at most 1.")
    if not (math.isfinite(optim.spike_ratio) and (optim.spike_ratio == 0 or optim.spike_ratio > 1)):
        raise ConfigError(f"optim.spike_ratio is {optim.spike_ratio}; give a multiple above 1, or 0 for none.")
