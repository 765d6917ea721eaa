"""Group-relative advantages: how much better a rollout scored than the others of its prompt.

Batch-wide whitening (REINFORCE++) is in reinforce.py.

Scores are plain floats in reward units, one per rollout of one group; `None` marks a masked rollout (its verifier
failed), which takes no part in the group's statistics and gets the advantage 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group

Scores = Sequence[float | None]


def live_scores(scores: Scores) -> list[float]:
    """Scores of rollouts whose verifiers did not fail."""
    return [score for score in scores if score is not None]


def per_live_rollout(scores: Scores, scale: Callable[[list[float], float], float]) -> list[float]:
    """`(r_i - mean) / scale(live, mean)`; zeros for a group of equals or with fewer than two live rollouts. [G]"""
    live = live_scores(scores)
    # A group of equals, or of one, has nothing to compare with. Exactly 0, not the rounding error of a mean.
    if len(live) < 2 or max(live) == min(live):
        return [0.0] * len(scores)
    mean = math.fsum(live) / len(live)
    divisor = scale(live, mean)
    return [0.0 if score is None else (score - mean) / divisor for score in scores]


def sample_std(values: Sequence[float], mean: float) -> float:
    """The n-1 standard deviation."""
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def has_spread(scores: Scores, *, tolerance: float = 1e-9) -> bool:
    """True when the live scores differ by more than `tolerance`, so that the group can teach something."""
    live = live_scores(scores)
    return len(live) >= 2 and max(live) - min(live) > tolerance


def set_advantages(groups: Sequence[Group], of: Callable[[Scores], list[float]]) -> None:
    """Group by group: `of(scores)` becomes each rollout's advantage."""
    for group in groups:
        for rollout, advantage in zip(group.rollouts, of(group.scores()), strict=True):
            rollout.advantage = advantage


@piece(
    "advantage", "group_std", formula="(r_i - mean(r)) / (std(r) + eps), std with n-1",
    source="DeepSeekMath, arXiv 2402.03300; n-1 as the released trainers compute it",
)  # fmt: skip
@dataclass(frozen=True)
class GroupStd:
    """GRPO's and DAPO's advantage."""

    eps: float = 1e-6
    """Added to the standard deviation, in reward units. verl 1e-6, TRL 1e-4."""

    def __post_init__(self) -> None:
        if self.eps < 0:
            raise ValueError("eps must be 0 or more.")

    def of(self, scores: Scores) -> list[float]:
        """Advantages [G] of one group's scores."""
        return per_live_rollout(scores, lambda live, mean: sample_std(live, mean) + self.eps)

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage."""
        set_advantages(groups, self.of)


@piece(
    "advantage", "group_mean", formula="r_i - mean(r)",
    source="Dr. GRPO (Understanding R1-Zero-like training), arXiv 2503.20783",
)  # fmt: skip
@dataclass(frozen=True)
class GroupMean:
    """No division, so hard and easy prompts are not blown up."""

    def of(self, scores: Scores) -> list[float]:
        """Advantages [G] of one group's scores."""
        return per_live_rollout(scores, lambda live, mean: 1.0)

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage."""
        set_advantages(groups, self.of)


@piece(
    "advantage", "rloo", formula="r_i - mean of the others = (r_i - mean(r)) n / (n - 1)",
    source="Back to Basics (RLOO), arXiv 2402.14740; the same in verl and TRL; OREAL uses it too",
)  # fmt: skip
@dataclass(frozen=True)
class LeaveOneOut:
    """Each rollout is compared with the mean of the other live rollouts of its group."""

    def of(self, scores: Scores) -> list[float]:
        """Advantages [G] of one group's scores."""
        return per_live_rollout(scores, lambda live, mean: (len(live) - 1) / len(live))

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage."""
        set_advantages(groups, self.of)


@piece(
    "advantage", "batch_std", formula="(r_i - mean of its group) / (std of the batch + eps), std with n-1",
    source="Lite-PPO (Tricks or Traps?), arXiv 2508.08221; TRL scale_rewards=batch",
)  # fmt: skip
@dataclass(frozen=True)
class BatchStd:
    """The group gives the baseline, the whole step gives the scale: easy and hard prompts are not blown up."""

    eps: float = 1e-4
    """Added to the standard deviation, in reward units. TRL 1e-4."""

    def __post_init__(self) -> None:
        if self.eps <= 0:
            raise ValueError("eps must be above 0.")

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage. The deviation is that of all live scores of the step, not of the centred ones."""
        live = [score for group in groups for score in live_scores(group.scores())]
        spread = sample_std(live, math.fsum(live) / len(live)) if len(live) > 1 else 0.0
        set_advantages(groups, lambda scores: per_live_rollout(scores, lambda own, mean: spread + self.eps))


@piece("advantage", "none", formula="r_i", source="REINFORCE (Williams, 1992), without a baseline")
@dataclass(frozen=True)
class NoBaseline:
    """The score itself."""

    def of(self, scores: Scores) -> list[float]:
        """Advantages [G] of one group's scores."""
        return [0.0 if score is None else score for score in scores]

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage."""
        set_advantages(groups, self.of)
