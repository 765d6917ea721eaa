"""From per-token losses to this micro-batch's share of the step's loss.

Every function divides by `totals`, counted over all micro-batches and processes of the optimiser step before its first
backward, so the sum over micro-batches does not depend on how the rollouts were split.
Shape letters: B rollouts, T token positions. `mask` is 1 on the tokens that train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def counts(mask: Tensor) -> dict[str, float]:
    """What the aggregators divide by: trained tokens, and rollouts with at least one of them. `mask` is [B, T]."""
    return {"tokens": float(mask.sum()), "sequences": float((mask.sum(1) > 0).sum())}


def token_mean(loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
    """Every token of the step weighs the same (DAPO, arXiv 2503.14476). `max_length` is unused."""
    return (loss * mask).sum() / max(totals["tokens"], 1.0)


def seq_mean_token_mean(loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
    """Every rollout of the step weighs the same, whatever its length (GRPO, arXiv 2402.03300). `max_length` is unused."""
    per_rollout = (loss * mask).sum(1) / mask.sum(1).clamp(min=1.0)
    return per_rollout.sum() / max(totals["sequences"], 1.0)


def constant_length(loss: Tensor, mask: Tensor, totals: Mapping[str, float], *, max_length: int) -> Tensor:
    """Token sum over `rollouts x max_length`, a constant, so length has no pull on the gradient (Dr. GRPO, arXiv 2503.20783)."""
    return (loss * mask).sum() / (max(totals["sequences"], 1.0) * max_length)
