"""APO's suboptimal trajectory complexity regularisation: long wrong answers lose a little more (arXiv 2506.21655)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group


def stcr_factor(overrun: float, base: float = 1.00001) -> float:
    """`1 + (1 - base^-overrun)` for a wrong answer `overrun` tokens longer than the right ones' mean; 1 when not longer."""
    return 2.0 - base ** (-overrun) if overrun > 0 else 1.0


@piece(
    "weigh", "stcr", formula="wrong and longer than the right ones' mean by x > 0 tokens: A * (1 + (1 - base^-x))",
    source="APO (View-R1), arXiv 2506.21655 (released code)", caveat="small by design: 1.00995 at 1000 tokens over",
)  # fmt: skip
@dataclass(frozen=True)
class SuboptimalComplexity:
    """Nothing happens in a group without a right answer."""

    base: float = 1.00001

    def __post_init__(self) -> None:
        if self.base <= 1:
            raise ValueError("base must be above 1.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Scale the advantages of long wrong rollouts."""
        for group in groups:
            right = [rollout.length for rollout in group.live() if rollout.right]
            if not right:
                continue
            mean = sum(right) / len(right)
            for rollout in group.live():
                if not rollout.right:
                    factor = stcr_factor(rollout.length - mean, self.base)
                    rollout.advantage *= factor
                    rollout.token_advantages = [factor * advantage for advantage in rollout.token_advantages]
