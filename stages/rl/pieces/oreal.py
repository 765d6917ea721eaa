"""OREAL (arXiv 2502.06781), the basis of Intern-S1's RL: imitate the right rollout, push the wrong one down.

Right and wrong rollouts are two losses with a denominator each. Both are plain policy gradients, without ratio or clip.
The token reward model is no piece (nothing here trains a second head); what its scores would mean is `right_weights` and
`wrong_weights`. Intern-S1 goes without it. Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout
from factory.stages.rl.tokens import Surrogate, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

RIGHT, WRONG = "oreal_right", "oreal_wrong"
"""Names of the two denominators: trained tokens of right and of wrong rollouts, over the whole optimiser step."""

_SOURCE = "OREAL, arXiv 2502.06781"


def probabilities(scores: Sequence[float]) -> list[float]:
    """`sigmoid(u_t)`, `u_t` the running mean of the token reward model's scores up to t. [len(scores)]"""
    found, total = [], 0.0
    for number, score in enumerate(scores, start=1):
        total += score
        found.append(1.0 / (1.0 + math.exp(-total / number)))
    return found


def right_weights(scores: Sequence[float]) -> list[float]:
    """Token weights of a right rollout: `clip((P - 0.5) / 0.5, 0, 1)`, in [0, 1]: what looked right so far counts."""
    return [min(max((p - 0.5) / 0.5, 0.0), 1.0) for p in probabilities(scores)]


def wrong_weights(scores: Sequence[float]) -> list[float]:
    """Token weights of a wrong rollout: `clip(((1 - P) - 0.5) / 0.5, 0, 1)`, in [0, 1]: what looked wrong so far counts."""
    return [min(max((0.5 - p) / 0.5, 0.0), 1.0) for p in probabilities(scores)]


def per_row(values: Tensor) -> Tensor:
    """[B] -> [B, 1]."""
    return values.unsqueeze(1)


@piece(
    "loss", "oreal", formula="right: right_coef NLL A / N+; wrong: -wrong_coef exp(logp - sg[logp]) A / N-", source=_SOURCE,
    caveat="use aggregator=token_mean; the released code zeroes the KL of right rollouts and then overwrites that: KL reaches all",
)  # fmt: skip
@dataclass(frozen=True)
class Oreal:
    """Cross-entropy on right rollouts, policy gradient on wrong ones; N+ and N- count the trained tokens of each side.

    Values are multiplied by N / N+ and N / N-, so that `token_mean`, which divides everything by N, leaves N+ and N-.
    """

    right_coef: float = 1.0
    wrong_coef: float = 0.5
    times_advantage: bool = True
    """False: right rollouts are imitated alike, whatever their advantage (a switch of the released code)."""

    def __post_init__(self) -> None:
        if self.right_coef < 0 or self.wrong_coef < 0:
            raise ValueError("right_coef and wrong_coef must be 0 or more.")

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """The two denominators' share of a micro-batch."""
        mask, right = batch["policy_mask"], per_row(batch["right"])
        return {RIGHT: float((mask * right).sum()), WRONG: float((mask * (1.0 - right)).sum())}

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        assert batch.right is not None, "make_batch fills it in"
        right, tokens = per_row(batch.right), batch.totals["tokens"]
        imitate = -batch.logp * batch.advantages if self.times_advantage else -batch.logp
        # The ratio to the policy itself has the value 1 and the gradient of logp.
        push = -(batch.logp - batch.logp.detach()).exp() * batch.advantages
        of_right = self.right_coef * imitate * (tokens / max(batch.totals[RIGHT], 1.0))
        of_wrong = self.wrong_coef * push * (tokens / max(batch.totals[WRONG], 1.0))
        return Surrogate(right * of_right + (1.0 - right) * of_wrong)


@piece(
    "resample", "oreal_pair", formula="one random right and one random wrong rollout of each group that has both", source=_SOURCE,
)  # fmt: skip
@dataclass(frozen=True)
class OrealPair:
    """After the advantages were made from all rollouts of a group. Groups all right or all wrong are dropped."""

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """Groups of two, the right rollout first. The choice depends on the step, the sample and the rollouts' indices only."""
        return [replace(group, rollouts=pair) for group in groups if (pair := self._pair(ctx, group))]

    def _pair(self, ctx: StepContext, group: Group) -> list[Rollout]:
        live = sorted(group.live(), key=lambda rollout: rollout.index)
        right, wrong = ([r for r in live if r.right is side] for side in (True, False))
        if not right or not wrong:
            return []
        rng = ctx.rng(f"{self.key}/{group.sample.id}")  # type: ignore[attr-defined]
        return [rng.choice(right), rng.choice(wrong)]
