"""SAPO: a smooth gate on the importance ratio in place of a clip. Shape letters: B rollouts, T token positions."""

from __future__ import annotations

from dataclasses import dataclass

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import importance_ratio
from factory.stages.rl.tokens import Surrogate, TokenBatch


@piece(
    "loss", "sapo", formula="-A (4 / tau) sigmoid(tau (rho - 1)), tau by the sign of A", source="SAPO, arXiv 2511.20347; TRL",
    needs={"old_logprobs"},
)  # fmt: skip
@dataclass(frozen=True)
class Sapo:
    """At rho = 1 the gradient is the policy gradient; away from it, it fades instead of stopping."""

    tau_positive: float = 1.0
    """Sharpness for advantages above 0."""
    tau_negative: float = 1.05
    """Sharpness for the others: a little sharper, because pushing down is what makes training unstable."""

    def __post_init__(self) -> None:
        if self.tau_positive <= 0 or self.tau_negative <= 0:
            raise ValueError("tau_positive and tau_negative must be above 0. TRL: 1.0 and 1.05.")

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        up = (batch.advantages > 0).to(batch.logp.dtype)
        tau = self.tau_positive * up + self.tau_negative * (1.0 - up)
        gate = (tau * (importance_ratio(batch.logp, batch.old) - 1.0)).sigmoid() * 4.0 / tau
        return Surrogate(-gate * batch.advantages)
