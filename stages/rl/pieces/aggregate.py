"""From per-token losses to this micro-batch's share of the step's loss.

Every piece divides by `totals`, counted over all micro-batches and processes of the optimiser step before its first
backward, so the sum over micro-batches does not depend on how the rollouts were split.
Shape letters: B rollouts, T token positions. `mask` is 1 on the tokens that train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece

if TYPE_CHECKING:
    from torch import Tensor


def counts(mask: Tensor) -> dict[str, float]:
    """What the aggregators divide by: trained tokens, and rollouts with at least one of them. `mask` is [B, T]."""
    return {"tokens": float(mask.sum()), "sequences": float((mask.sum(1) > 0).sum())}


@piece(
    "aggregator", "token_mean", formula="sum(L m) / sum(m)", source="DAPO, arXiv 2503.14476",
    caveat="BNPO divides by the tokens of each micro-batch, so its loss depends on the split; this is its global form",
)  # fmt: skip
@dataclass(frozen=True)
class TokenMean:
    """Every token of the step weighs the same."""

    def __call__(self, loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
        """[B, T], [B, T] -> scalar. `max_length` is unused."""
        return (loss * mask).sum() / max(totals["tokens"], 1.0)


@piece(
    "aggregator", "seq_mean_token_mean", formula="mean over rollouts of sum_t(L m) / sum_t(m)",
    source="GRPO: DeepSeekMath, arXiv 2402.03300",
)  # fmt: skip
@dataclass(frozen=True)
class SeqMeanTokenMean:
    """Every rollout of the step weighs the same, whatever its length."""

    def __call__(self, loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
        """[B, T], [B, T] -> scalar. `max_length` is unused."""
        per_rollout = (loss * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return per_rollout.sum() / max(totals["sequences"], 1.0)


@piece(
    "aggregator", "seq_mean_token_sum", formula="mean over rollouts of sum_t(L m)",
    source="verl (loss_agg_mode seq-mean-token-sum)",
)  # fmt: skip
@dataclass(frozen=True)
class SeqMeanTokenSum:
    """Token sums averaged over rollouts: for losses that are one number per sequence."""

    def __call__(self, loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
        """[B, T], [B, T] -> scalar. `max_length` is unused."""
        return (loss * mask).sum() / max(totals["sequences"], 1.0)


@piece(
    "aggregator", "constant_length", formula="sum(L m) / (rollouts x L_max)", source="Dr. GRPO, arXiv 2503.20783",
)  # fmt: skip
@dataclass(frozen=True)
class ConstantLength:
    """Divided by a constant, so length has no pull on the gradient."""

    def __call__(self, loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
        """[B, T], [B, T] -> scalar. `max_length`: the generation limit, tokens."""
        return (loss * mask).sum() / (max(totals["sequences"], 1.0) * max_length)


@piece(
    "aggregator", "luffy_sum_norm", formula="sum(L m) / L_max", source="LUFFY, arXiv 2504.14945, released code",
    caveat="the code does this per micro-batch, with L_max the padded response length, and averages over micro-batches; here "
    "the sum runs over the whole step and L_max is max_new_tokens, so the split does not matter",
)  # fmt: skip
@dataclass(frozen=True)
class LuffySumNorm:
    """As `constant_length` without the number of rollouts: the step's gradient grows with the batch, so lr must fit it.

    The code's value for n equal micro-batches of padded length L is sum(L m) / (n L); ours times max_new_tokens / (n L).
    """

    def __call__(self, loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
        """[B, T], [B, T] -> scalar. `max_length`: the generation limit, tokens; `totals` is unused."""
        return (loss * mask).sum() / max_length
