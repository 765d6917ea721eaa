"""Online mirror descent (Kimi k1.5, arXiv 2501.12599, section 2.3.2): a squared pull towards the policy that sampled.

One iteration is one RL step: its reference is the policy that sampled the step's rollouts, whose log-probs are the old ones,
and the optimiser starts afresh in each. Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.tokens import Surrogate, TokenBatch

if TYPE_CHECKING:
    from factory.stages.learner import Learner


@piece(
    "loss", "mirror_descent", formula="-A log pi(y) + tau / 2 (log pi(y) - log pi_i(y))^2, sequence log-probs, A = r - mean(r)",
    source="Kimi k1.5, arXiv 2501.12599", needs={"old_logprobs"}, caveat="tau is not published, so it has to be given",
)  # fmt: skip
@dataclass(frozen=True)
class MirrorDescent:
    """One loss per rollout, on each of its tokens; use `advantage=group_mean` and `aggregator=seq_mean_token_mean`."""

    tau: float
    """Strength of the pull, in reward units per nat."""
    reset_optimizer: bool = True
    """Forget the optimiser's moments after each RL step, as the paper does. Not with DeepSpeed."""

    def __post_init__(self) -> None:
        if self.tau <= 0:
            raise ValueError("tau must be above 0.")

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T], equal on all tokens of a rollout."""
        gain = (batch.advantages * batch.logp * batch.mask).sum(1, keepdim=True)
        moved = ((batch.logp - batch.old) * batch.mask).sum(1, keepdim=True)
        return Surrogate((0.5 * self.tau * moved.square() - gain).expand_as(batch.logp))

    def after_updates(self, learner: Learner) -> None:
        """The iteration is over. Raises TrainingError under DeepSpeed."""
        if self.reset_optimizer:
            learner.reset_optimizer()
