"""CPGD: clipped policy gradient on log-probabilities, without a ratio, with an optional pull back to the sampling policy.

Source: SafeWork-R1's training code (LightRFT). Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from factory.stages.rl.pieces.kl import k3
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.tokens import Surrogate, TokenBatch


@piece(
    "loss", "cpgd", formula="-x A; x = min(logp, old + log(1+eps)) where A > 0, else max(logp, old + log(1-eps))",
    source="CPGD, arXiv 2505.12504; SafeWork-R1 (LightRFT)", needs={"old_logprobs"},
    caveat="no source states the coefficient of the drift term, so it is off until drift_coef is given; its estimator is ours: "
    "k3 of KL(sampling policy || policy)",
)  # fmt: skip
@dataclass(frozen=True)
class Cpgd:
    """No importance ratio, hence none of its variance; aggregate it with `seq_mean_token_mean`."""

    eps: float = 0.2
    drift: bool = False
    """Add `drift_coef * (exp(d) - d - 1)`, d = logp - old: how far the policy has moved from the one that sampled."""
    drift_coef: float = 0.0
    """Required with drift=true."""

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1:
            raise ValueError("eps must be in (0, 1). SafeWork-R1 uses 0.2.")
        if self.drift and self.drift_coef <= 0:
            raise ValueError("drift=true needs drift_coef above 0: no source states a value.")
        if self.drift_coef and not self.drift:
            raise ValueError("drift_coef has no effect without drift=true.")

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        high, low = batch.old + math.log1p(self.eps), batch.old + math.log1p(-self.eps)
        is_up = batch.advantages > 0
        held = batch.logp.minimum(high).where(is_up, batch.logp.maximum(low))
        loss = -held * batch.advantages
        if self.drift:
            # On samples of the old policy, k3 with the roles exchanged estimates KL(old || policy).
            loss = loss + self.drift_coef * k3(batch.old, batch.logp)
        is_down = batch.advantages < 0
        return Surrogate(loss, clipped_low=(batch.logp < low) & is_down, clipped_high=(batch.logp > high) & is_up)
