"""The clipped policy-gradient surrogate, per token. Shape letters: B rollouts, T token positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.tokens import Surrogate, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are held within +-20 before `exp`, so that a broken sampler gives a large loss and not an infinite one."""


def importance_ratio(logp: Tensor, old: Tensor) -> Tensor:
    """`exp(logp - old)` per token [B, T], carrying the gradient of `logp`."""
    return (logp - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def clipped(ratio: Tensor, advantages: Tensor, *, eps_low: float, eps_high: float, dual_clip: float = 0.0) -> Surrogate:
    """`max(-A rho, -A clip(rho, 1-eps_low, 1+eps_high))`; both tensors [B, T].

    `dual_clip`: with a value c > 1, a token of negative advantage loses at most `-A c`; 0 leaves it unbounded.
    """
    loss = (-advantages * ratio).maximum(-advantages * ratio.clamp(1.0 - eps_low, 1.0 + eps_high))
    if dual_clip:
        loss = loss.minimum(-advantages * dual_clip).where(advantages < 0, loss)
    return Surrogate(
        loss,
        clipped_low=(ratio < 1.0 - eps_low) & (advantages < 0),
        clipped_high=(ratio > 1.0 + eps_high) & (advantages > 0),
    )


def check_clip(eps_low: float, eps_high: float) -> None:
    """Raises ValueError for ends that cannot clip."""
    if not 0 < eps_low <= 1 or eps_high <= 0:
        raise ValueError("eps_low must be in (0, 1] and eps_high above 0. The usual values are 0.2 and 0.28.")


@piece(
    "loss", "clip", formula="max(-A rho, -A clip(rho, 1-eps_low, 1+eps_high)), rho = exp(logp - old)",
    source="PPO, arXiv 1707.06347; two ends: DAPO, arXiv 2503.14476; dual clip: arXiv 1912.09729", needs={"old_logprobs"},
)  # fmt: skip
@dataclass(frozen=True)
class Clip:
    """The clipped surrogate."""

    eps_low: float = 0.2
    eps_high: float = 0.2
    dual_clip: float = 0.0
    """Bound c > 1 on the loss of tokens with negative advantage; 0 is off (verl: 3)."""

    def __post_init__(self) -> None:
        check_clip(self.eps_low, self.eps_high)
        if self.dual_clip and self.dual_clip <= 1:
            raise ValueError("dual_clip must be above 1 (usual: 3), or 0 to switch it off.")

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        ratio = importance_ratio(batch.logp, batch.old)
        return clipped(ratio, batch.advantages, eps_low=self.eps_low, eps_high=self.eps_high, dual_clip=self.dual_clip)
