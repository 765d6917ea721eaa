"""KL-Cov: hold back the few tokens whose log-probability and advantage move together most, for they eat the entropy.

The tokens are chosen over the whole optimiser step, on all processes, before its first forward (`flag`), so the choice does
not depend on micro-batches. Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import importance_ratio
from factory.stages.rl.tokens import Surrogate, TokenBatch

TokenRow = tuple[Sequence[float], Sequence[float], Sequence[int]]
"""Of one rollout: log-probs under the policy as it is now, advantages, and 1 where a token trains."""


def covariances(advantages: Sequence[float], logprobs: Sequence[float]) -> list[float]:
    """`(A - mean A) (logp - mean logp)` of each token; the means are over all of them."""
    if not advantages:
        return []
    mean_a, mean_l = math.fsum(advantages) / len(advantages), math.fsum(logprobs) / len(logprobs)
    return [(a - mean_a) * (logp - mean_l) for a, logp in zip(advantages, logprobs, strict=True)]


def top_share(values: Sequence[float], share: float) -> list[float]:
    """1 for the largest `max(1, floor(share n))` values, else 0; values tied at the edge divide what is left between them.

    Dividing keeps the choice independent of the order of the rollouts.
    """
    if not values:
        return []
    wanted = max(1, int(len(values) * share))
    edge = sorted(values, reverse=True)[wanted - 1]
    above, tied = sum(value > edge for value in values), sum(value == edge for value in values)
    part = (wanted - above) / tied
    return [1.0 if value > edge else part if value == edge else 0.0 for value in values]


@piece(
    "loss", "kl_cov", formula="-A rho + beta |logp - old| on the top k share of tokens by (A - mean A)(logp - mean logp)",
    source="The Entropy Mechanism, arXiv 2505.22617; verl", needs={"old_logprobs", "current_logprobs"},
    caveat="verl chooses within a micro-batch, here within the optimiser step; Intern-S1 reports k 0.2 and beta 0.01",
)  # fmt: skip
@dataclass(frozen=True)
class KlCov:
    """No clip: entropy is held by the penalty on the chosen tokens."""

    k: float = 2e-4
    """Share of the step's trained tokens that is held back (at least one token). verl's default."""
    beta: float = 1.0
    """Coefficient of their penalty. verl's default."""

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1 or self.beta < 0:
            raise ValueError("k must be in (0, 1] and beta 0 or more. verl: 0.0002 and 1; Intern-S1: 0.2 and 0.01.")

    def flag(self, rows: Sequence[TokenRow]) -> list[list[float]]:
        """For all rollouts of the optimiser step, of all processes: 1 on each chosen token, 0 elsewhere."""
        places = [(r, t) for r, (_, _, trained) in enumerate(rows) for t, m in enumerate(trained) if m]
        values = covariances([rows[r][1][t] for r, t in places], [rows[r][0][t] for r, t in places])
        flags = [[0.0] * len(logprobs) for logprobs, _, _ in rows]
        for (r, t), chosen in zip(places, top_share(values, self.k), strict=True):
            flags[r][t] = chosen
        return flags

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        gap = (batch.logp - batch.old).abs()
        return Surrogate(-batch.advantages * importance_ratio(batch.logp, batch.old) + self.beta * batch.flags * gap)
