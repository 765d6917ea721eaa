"""APO's difficulty-aware divergence shaping: right answers to hard prompts are barely tied to the reference (arXiv 2506.21655)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.difficulty import policy_pass_rate
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group


def dads_weight(rate: float, sharpness: float = math.e) -> float:
    """`1 - exp(-sharpness * rate)`; 1 for a rate of 0 or 1."""
    return 1.0 if rate in (0.0, 1.0) else 1.0 - math.exp(-sharpness * rate)


@piece(
    "kl_weight", "dads", formula="A > 0: 1 - exp(-e p), p = pass rate; 1 for A <= 0 and for p in {0, 1}",
    source="APO (View-R1), arXiv 2506.21655 (released code; KL coefficient 1e-3, k3)",
)  # fmt: skip
@dataclass(frozen=True)
class DifficultyKl:
    """A factor of the KL coefficient, by rollout."""

    sharpness: float = math.e
    """The e in the exponent."""

    def __post_init__(self) -> None:
        if self.sharpness <= 0:
            raise ValueError("sharpness must be above 0.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's factor."""
        for group in groups:
            rate = policy_pass_rate(group)
            for rollout in group.rollouts:
                rollout.kl_weight = 1.0 if rate is None or rollout.advantage <= 0 else dads_weight(rate, self.sharpness)
