"""KL-Cov: hold back the few tokens whose log-probability and advantage move together most, for they eat the entropy.

A loss of its own (verl) and a penalty beside another loss (Intern-S1: beside OREAL's). The tokens are chosen over the whole
optimiser step, on all processes, before its first forward (`flag`), so the choice does not depend on micro-batches.
Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import importance_ratio
from factory.stages.rl.tokens import Surrogate, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

    from factory.stages.rl.context import StepContext

TokenRow = tuple[Sequence[float], Sequence[float], Sequence[int]]
"""Of one rollout: log-probs under the policy as it is now, advantages, and 1 where a token trains."""

_SOURCE = "The Entropy Mechanism, arXiv 2505.22617; verl"
_NEEDS = ("old_logprobs", "current_logprobs")


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


@dataclass(frozen=True)
class _HeldBack:
    k: float = 2e-4
    """Share of the step's trained tokens that is held back (at least one token). verl 0.0002, Intern-S1 0.2."""
    beta: float = 1.0
    """Coefficient of their penalty. verl 1, Intern-S1 0.01."""

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

    def penalty(self, batch: TokenBatch) -> Tensor:
        """`beta |logp - old|` on the chosen tokens, [B, T]."""
        return self.beta * batch.flags * (batch.logp - batch.old).abs()


@piece(
    "loss", "kl_cov", formula="-A rho + beta |logp - old| on the top k share of tokens by (A - mean A)(logp - mean logp)",
    source=_SOURCE, needs=_NEEDS, caveat="verl chooses within a micro-batch, here within the optimiser step",
)  # fmt: skip
@dataclass(frozen=True)
class KlCov(_HeldBack):
    """No clip: entropy is held by the penalty on the chosen tokens."""

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        return Surrogate(-batch.advantages * importance_ratio(batch.logp, batch.old) + self.penalty(batch))


@piece(
    "auxiliary", "kl_cov_penalty", formula="beta |logp - old| on the top k share of tokens by (A - mean A)(logp - mean logp)",
    source=f"{_SOURCE}; beside OREAL's loss: Intern-S1, arXiv 2508.15763", needs=_NEEDS,
)  # fmt: skip
@dataclass(frozen=True)
class KlCovPenalty(_HeldBack):
    """The same penalty beside any loss."""

    def __call__(self, ctx: StepContext, batch: TokenBatch) -> Tensor:
        """[B, T] per-token term, averaged by the aggregator as the policy loss is."""
        return self.penalty(batch)
