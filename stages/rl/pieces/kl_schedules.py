"""The KL coefficient over the run. `s` is the RL step (0-based), `T` the number of RL steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group


@piece(
    "kl_schedule", "grpo_d",
    formula="mid - (mid - min) s / w for s <= w, then min + (max - min)(s - w) / (T - w); mid = (min + max) / 2, w = share T",
    source="OThink-MR1 (GRPO-D), arXiv 2503.16081, Eq. 3", caveat="the paper's prose calls the first branch an increase; its equation, used here, goes down",
)  # fmt: skip
@dataclass(frozen=True)
class GrpoD:
    """Falls from the middle to `min`, then rises to `max`. The KL piece's own coefficient is not used."""

    min: float
    """The paper: 0.04 for counting, 0 for geometry."""
    max: float
    """The paper: 0.1 for counting, 0.02 for geometry."""
    turn: float = 0.3
    """Share of the run at which the coefficient is lowest (w / T)."""

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max or not 0 < self.turn < 1:
            raise ValueError("0 <= min <= max is needed, and turn in (0, 1). The paper's counting run: 0.04, 0.1 and 0.3.")

    def coef(self, ctx: StepContext, base: float) -> float:
        """Coefficient at this step; `base` is not used."""
        if ctx.progress <= self.turn:
            middle = (self.min + self.max) / 2
            return middle - (middle - self.min) * ctx.progress / self.turn
        return self.min + (self.max - self.min) * (ctx.progress - self.turn) / (1.0 - self.turn)


@piece(
    "kl_schedule", "cosine", formula="beta / 2 (1 + cos(pi s / T))", source="Visionary-R1, arXiv 2505.14677, released code",
    caveat="the code runs over epochs, and its coefficient climbs again in the second; here it falls once, over the stage",
)  # fmt: skip
@dataclass(frozen=True)
class CosineKl:
    """From the KL piece's coefficient down to 0."""

    def coef(self, ctx: StepContext, base: float) -> float:
        """In [0, base]."""
        return base / 2 * (1.0 + math.cos(math.pi * ctx.progress))


@piece(
    "kl_schedule", "adaptive", formula="beta <- beta (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon) after each step of n rollouts",
    source="Ziegler et al. 2019, arXiv 1909.08593, section 2.2",
    caveat="Ziegler et al. measure the KL of a whole response; here it is the mean per token, as the step reports it",
)  # fmt: skip
@dataclass
class AdaptiveKl:
    """A proportional controller that keeps the measured KL near `target`, starting from the KL piece's coefficient."""

    target: float
    """Mean KL wanted, nats per trained token."""
    horizon: float
    """Rollouts after which an error held at 20% would have changed the coefficient by about 20%."""
    max_error: float = 0.2
    """The relative error is held within +-this."""

    def __post_init__(self) -> None:
        if self.target <= 0 or self.horizon <= 0 or self.max_error <= 0:
            raise ValueError("target (nats per token), horizon (rollouts) and max_error must be above 0.")
        self._factor = 1.0

    def coef(self, ctx: StepContext, base: float) -> float:
        """`base` times what the controller has made of it so far."""
        return base * self._factor

    def observe(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Take in the step's measured KL; a step that measured none changes nothing."""
        if ctx.measured_kl is None:
            return
        error = min(max(ctx.measured_kl / self.target - 1.0, -self.max_error), self.max_error)
        num_rollouts = sum(len(group.rollouts) for group in groups)
        # Never below 0, however many rollouts a step has for the horizon.
        self._factor *= max(1.0 + error * num_rollouts / self.horizon, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The factor on the base coefficient."""
        return {"factor": self._factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with it."""
        self._factor = float(state["factor"])
