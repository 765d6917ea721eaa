"""TW-GRPO: tokens at which the group's distributions part weigh more (arXiv 2505.24718). G rollouts, T positions, V words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group

if TYPE_CHECKING:
    from torch import Tensor

MAX_GAP = 11.0
"""Nats; differences of log-probs are held within it, as in the released code."""


def divergences(logp: Tensor) -> Tensor:
    """[G, T, V] log-probs -> [T]: mean over the rollouts of `sum_v (exp(x) - x - 1)`, x = mean log-prob - own, clamped."""
    mean = logp.mean(0)
    total = mean.new_zeros(mean.shape[0])
    # One rollout at a time: [G, T, V] is big enough once.
    for own in logp:
        gap = (mean - own).clamp(-MAX_GAP, MAX_GAP)
        total = total + (gap.exp() - gap - 1.0).sum(-1)
    return total / logp.shape[0]


def position_weights(divergence: Tensor, alpha: float) -> list[float]:
    """`1 + (alpha - 1) * (d - min) / (max - min + 1e-8)` for each position. [T]"""
    low, high = divergence.min(), divergence.max()
    return (1.0 + (alpha - 1.0) * (divergence - low) / (high - low + 1e-8)).tolist()


@piece(
    "token_weight", "tw_grpo", formula="1 + (alpha - 1) * minmax_t(mean_i sum_v (exp(x) - x - 1)), x = mean_i logp - logp_i",
    source="TW-GRPO, arXiv 2505.24718 (released code; alpha 1.7 in its run, 1.4 the code's default)", needs={"full_logits"},
    caveat="weights go by position, so they are noisy once the rollouts of a group diverge",
)  # fmt: skip
@dataclass(frozen=True)
class DivergenceWeight:
    """The same weights for all rollouts of a group. Positions after a rollout's end count as a uniform distribution."""

    alpha: float = 1.7
    """Weight of the position that differs most."""

    def __post_init__(self) -> None:
        if self.alpha < 1:
            raise ValueError("alpha must be 1 or more.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Multiply the token weights of every group that has something to learn."""
        assert ctx.services is not None, "a run has services"
        chosen = [group for group in groups if len(group.live()) > 1 and any(_teaches(group))]
        found = ctx.services.dealt(chosen, lambda mine: [self._weights(ctx, group) for group in mine])
        for group, weights in zip(chosen, found, strict=True):
            for rollout in group.live():
                before = rollout.token_weights or [1.0] * len(rollout.ids)
                rollout.token_weights = [a * b for a, b in zip(before, weights, strict=False)]

    def _weights(self, ctx: StepContext, group: Group) -> list[float]:
        assert ctx.services is not None, "a run has services"
        return position_weights(divergences(ctx.services.vocab_logprobs(group.sample, group.live())), self.alpha)


def _teaches(group: Group) -> list[bool]:
    return [bool(rollout.advantage or any(rollout.token_advantages)) for rollout in group.live()]
