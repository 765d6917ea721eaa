"""The clipped policy-gradient surrogate, per token. Shape letters: B rollouts, T token positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are held within +-20 before `exp`, so that a broken sampler gives a large loss and not an infinite one."""


@dataclass(frozen=True)
class Surrogate:
    """Per-token loss [B, T] and where each end of the clip took the gradient away (bool [B, T])."""

    loss: Tensor
    clipped_low: Tensor
    clipped_high: Tensor


def importance_ratio(logp: Tensor, old: Tensor) -> Tensor:
    """`exp(logp - old)` per token [B, T], carrying the gradient of `logp`."""
    return (logp - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def clipped_surrogate(
    logp: Tensor, old: Tensor, advantages: Tensor, *, eps_low: float, eps_high: float, dual_clip: float = 0.0
) -> Surrogate:
    """`max(-A rho, -A clip(rho, 1-eps_low, 1+eps_high))`, `rho = exp(logp - old)`.

    Args:
        logp: [B, T] log-probability under the policy being trained, nats.
        old: [B, T] log-probability under the policy that sampled the token.
        advantages: [B], the same for all tokens of a rollout.
        dual_clip: with a value c > 1, a token of negative advantage loses at most `-A c`; 0 leaves it unbounded.

    Source: PPO, arXiv 1707.06347; separate ends ("clip-higher"): DAPO, arXiv 2503.14476; dual clip: arXiv 1912.09729.
    """
    ratio = importance_ratio(logp, old)
    column = advantages.unsqueeze(1)
    loss = (-column * ratio).maximum(-column * ratio.clamp(1.0 - eps_low, 1.0 + eps_high))
    if dual_clip:
        bound = (-column * dual_clip).expand_as(loss)
        loss = loss.minimum(bound).where(column < 0, loss)
    return Surrogate(
        loss,
        clipped_low=(ratio < 1.0 - eps_low) & (column < 0),
        clipped_high=(ratio > 1.0 + eps_high) & (column > 0),
    )


def negative_entropy(entropy: Tensor) -> Tensor:
    """The entropy bonus as a per-token loss [B, T]: nats, so that minimising it raises the entropy."""
    return -entropy
