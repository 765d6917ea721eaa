"""Advantages scaled by how hard the prompt is for the policy. p = share of right rollouts in the group.

Groups with a normalised advantage already weigh hard and easy prompts apart; these factors come on top (the plan says so).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.parts import check_part, part_score
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import EDITED, FRESH, Group, Rollout

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture


def own_rollouts(group: Group) -> list[Rollout]:
    """What the policy wrote in this step and could be verified: injected rollouts say nothing about its skill."""
    return [rollout for rollout in group.live() if rollout.kind in (FRESH, EDITED)]


def policy_pass_rate(group: Group) -> float | None:
    """Share of right ones among `own_rollouts`; None without any."""
    own = own_rollouts(group)
    return sum(rollout.right for rollout in own) / len(own) if own else None


def scale_advantages(group: Group, factor: float) -> None:
    """Multiply every advantage of the group, token by token where there are such."""
    for rollout in group.rollouts:
        rollout.advantage *= factor
        rollout.token_advantages = [factor * advantage for advantage in rollout.token_advantages]


def _peak(p: float) -> float:
    """`cos((p - 0.5) pi)`: 1 at one half, 0 at both ends."""
    return math.cos((p - 0.5) * math.pi)


ODSW: Mapping[str, Callable[[float], float]] = {
    "easy": lambda p: 0.0 if p == 0 else (_peak(p) if p <= 0.5 else 1.0),
    "medium": lambda p: 0.0 if p in (0.0, 1.0) else _peak(p),
    "hard": lambda p: 0.25 if p == 0 else (1.0 if p <= 0.5 else (0.0 if p == 1 else _peak(p))),
    "h_1": lambda p: float(0.0 < p <= 0.5),
    "h_2": lambda p: float(0.25 <= p <= 0.75),
    "h_3": lambda p: float(0.5 <= p <= 1.0),
}
"""form -> weight of a pass rate. `easy`, `medium` and `hard` are the three stages, in this order; h_1 to h_3 are hard windows."""


@piece(
    "weigh", "odsw", formula="A * F(p), F from cos((p - 0.5) pi) by stage", source="VL-Cogito, arXiv 2507.22607 (released code)",
)  # fmt: skip
@dataclass(frozen=True)
class OnlineDifficulty:
    """VL-Cogito's online difficulty soft weighting: each stage looks at prompts of its own difficulty."""

    form: str
    """`easy`, `medium` or `hard` (the stage), or the windows `h_1`, `h_2`, `h_3`."""

    def __post_init__(self) -> None:
        if self.form not in ODSW:
            raise ValueError(f"form={self.form!r} is not known. Choose one of: {', '.join(ODSW)}.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Scale every group's advantages."""
        for group in groups:
            rate = policy_pass_rate(group)
            if rate is not None:
                scale_advantages(group, ODSW[self.form](rate))


@piece("weigh", "observe", formula="A * 4 peak p (1 - p)", source="Observe-R1, arXiv 2505.12432 (released code)")
@dataclass(frozen=True)
class ObserveWeight:
    """Most for prompts that are half solved, nothing for those that are always or never solved."""

    peak: float = 1.8
    """Weight at p = 0.5."""

    def __post_init__(self) -> None:
        if self.peak <= 0:
            raise ValueError("peak must be above 0.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Scale every group's advantages."""
        for group in groups:
            rate = policy_pass_rate(group)
            if rate is not None:
                scale_advantages(group, 4.0 * self.peak * rate * (1.0 - rate))


UNIVG_FORMS = ("exp", "power", "log")


@piece(
    "weigh", "univg", formula="A * f(m): exp(1 - m), (1.05 - m)^w or max(0, -log(0.02 + m)); m = mean score of the group",
    source="UniVG-R1, arXiv 2505.14231 (released code)",
    caveat="the code averages over the worker's rollouts, here over the group; its log form turns negative above 0.98, here it is 0",
)  # fmt: skip
@dataclass(frozen=True)
class MeanScoreWeight:
    """Weighs by a graded score (UniVG: the IoU), where right and wrong are too coarse. The KL term is not weighed."""

    form: str = "power"
    """`exp`, `power` (the code's default) or `log`."""
    exponent: float = 1.0
    """w of the power form."""
    part: str = ""
    """Verifier (or `verifier/part`) whose mean counts; empty: the value."""

    def __post_init__(self) -> None:
        if self.form not in UNIVG_FORMS:
            raise ValueError(f"form={self.form!r} is not known. Choose one of: {', '.join(UNIVG_FORMS)}.")
        if self.exponent <= 0:
            raise ValueError("exponent must be above 0.")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """No notes. Raises ConfigError when a task has no such part."""
        if self.part:
            check_part(self.key, "part", self.part, mixture)
        return ()

    def weight(self, mean: float) -> float:
        """Weight of a group with this mean score, which lies in [0, 1]."""
        if self.form == "exp":
            return math.exp(1.0 - mean)
        if self.form == "power":
            return (1.05 - mean) ** self.exponent
        return max(0.0, -math.log(0.02 + mean))

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Scale every group's advantages; rollouts whose part failed are left out of the mean."""
        for group in groups:
            own = own_rollouts(group)
            found = [part_score(rollout, self.part, self.key) if self.part else rollout.value for rollout in own]
            scores = [score for score in found if score is not None]
            if scores:
                scale_advantages(group, self.weight(math.fsum(scores) / len(scores)))
