"""CISPO: the importance ratio is clipped and becomes a weight; no token loses its gradient. Shape letters: B, T."""

from __future__ import annotations

from dataclasses import dataclass

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import check_clip, importance_ratio
from factory.stages.rl.tokens import Surrogate, TokenBatch


@piece(
    "loss", "cispo", formula="-sg[clip(rho, 1-eps_low, 1+eps_high)] A logp, rho = exp(logp - old)",
    source="MiniMax-M1, arXiv 2506.13585; verl, TRL", needs={"old_logprobs"},
    caveat="the source leaves eps_high to the configuration; 0.28 is DAPO's upper end",
)  # fmt: skip
@dataclass(frozen=True)
class Cispo:
    """The policy gradient with truncated importance weights."""

    eps_low: float = 1.0
    """1 leaves the lower end open, as usual."""
    eps_high: float = 0.28
    """TRL writes this end as the bound itself: its epsilon_high is 1 + eps_high."""

    def __post_init__(self) -> None:
        check_clip(self.eps_low, self.eps_high)

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]. The flags mark weights that were cut; their tokens keep a gradient."""
        ratio = importance_ratio(batch.logp, batch.old).detach()
        low, high = 1.0 - self.eps_low, 1.0 + self.eps_high
        weight = ratio.clamp(low, high)
        return Surrogate(-weight * batch.advantages * batch.logp, clipped_low=ratio < low, clipped_high=ratio > high)
