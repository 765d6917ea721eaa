"""Trust-GRPO: a reward for the thinking, trusted as far as it agrees with the outcomes of the group (SophiaVL-R1).

A judge scores the thinking in [0, 1]. Where wrong answers get better thinking scores than right ones, the judge is not
trusted with this group, and its term shrinks. The term fades over the run, so that in the end the outcome alone counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.parts import check_part, is_routed, part_or_mask
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture

VARIANTS = ("paper", "code")
CODE_HORIZON = 500
"""Steps of the released code's annealing."""
CODE_JUDGED_FROM = 0.2
"""The released code sends only answers with this outcome or a better one to the judge."""


def trust_weight(outcomes: Sequence[float], thinking: Sequence[float], right_from: float, variant: str) -> float:
    """Gamma of one group: 1 when the right ones think no worse than the wrong, else `exp(mu_right - mu_wrong)`; may be 0.

    `paper`: 0 for a group that is all right or all wrong. `code`: 0 for a group of equal outcomes, 1 for one that is all
    right or all wrong and not equal.
    """
    right = [t for o, t in zip(outcomes, thinking, strict=True) if o >= right_from]
    wrong = [t for o, t in zip(outcomes, thinking, strict=True) if o < right_from]
    if variant == "code" and (not outcomes or max(outcomes) == min(outcomes)):
        return 0.0
    if not right or not wrong:
        return 0.0 if variant == "paper" else 1.0
    gap = math.fsum(right) / len(right) - math.fsum(wrong) / len(wrong)
    return math.exp(min(gap, 0.0))


@piece(
    "group_reward", "trust", formula="+gamma alpha exp(-s/T) R_t; gamma = 1 if mu_right >= mu_wrong else exp(mu_right - mu_wrong)",
    source="SophiaVL-R1, arXiv 2505.17018, Trust-GRPO", needs={"judge_part"},
    caveat="paper and code differ in T (1500 or all steps; 500), in who is judged and in groups of equals: `variant`",
)  # fmt: skip
@dataclass(frozen=True)
class Trust:
    """The outcome is the mixture's value; give the judge weight 0 there, or it counts twice."""

    part: str
    """Verifier (or `verifier/part`) with the thinking score."""
    alpha: float = 0.3
    horizon: int = 0
    """T of the fading, RL steps. 0: all steps of the stage (paper), or 500 (code)."""
    right_from: float = 0.5
    """Outcome from which an answer counts as right."""
    variant: str = "paper"
    tasks: list[str] = field(default_factory=list)
    """Tasks that it is for; none named: all."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant={self.variant!r} is not known. Choose 'paper' or 'code'.")
        if self.alpha <= 0 or self.horizon < 0 or not self.part:
            raise ValueError("alpha must be above 0, horizon 0 or more and part a name.")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """Notes for the plan. Raises ConfigError when a task has no such part."""
        check_part(self.key, "part", self.part, mixture, self.tasks)
        counted = [task for task in self.tasks or mixture.tasks if mixture.of(task).weights.get(self.part, 0.0) > 0]
        return [f"{self.key}: '{self.part}' also counts in the mixture of {', '.join(counted)}."] if counted else []

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add the term to every rollout that is not masked; one whose judge failed is masked."""
        if not is_routed(group, self.tasks):
            return
        scored = [(r, score) for r in group.live() if (score := part_or_mask(r, self.part, self.key)) is not None]
        outcomes = [rollout.value for rollout, _ in scored]
        thinking = [score for _, score in scored]
        if self.variant == "code":
            thinking = [t if o >= CODE_JUDGED_FROM else 0.0 for o, t in zip(outcomes, thinking, strict=True)]
        factor = trust_weight(outcomes, thinking, self.right_from, self.variant) * self.fading(ctx)
        for (rollout, _), score in zip(scored, thinking, strict=True):
            rollout.shaping[self.key] = factor * score

    def fading(self, ctx: StepContext) -> float:
        """`alpha exp(-s/T)`."""
        horizon = self.horizon or (ctx.total if self.variant == "paper" else CODE_HORIZON)
        return self.alpha * math.exp(-ctx.step / horizon)
