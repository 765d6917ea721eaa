"""StableReinforce (R1-Reward, arXiv 2505.02835): hold the ratio before it is taken, and drop advantages that stick out.

Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import check_clip, clipped
from factory.stages.rl.pieces.reinforce import VARIANCE_EPS, set_token_advantages
from factory.stages.rl.rollouts import Group
from factory.stages.rl.tokens import Surrogate, TokenBatch

_SOURCE = "StableReinforce: R1-Reward, arXiv 2505.02835"

VARIANTS = ("intent", "code")


@piece(
    "loss", "stable_clip", formula="as clip, with log rho held within +-log(max_ratio) before exp", source=_SOURCE,
    needs={"old_logprobs"},
)  # fmt: skip
@dataclass(frozen=True)
class StableClip:
    """The clipped surrogate with the pre-clip."""

    eps_low: float = 0.2
    eps_high: float = 0.2
    max_ratio: float = 1e3
    """The ratio stays in [1 / max_ratio, max_ratio]; outside, the token has no gradient."""

    def __post_init__(self) -> None:
        check_clip(self.eps_low, self.eps_high)
        if self.max_ratio <= 1.0 + self.eps_high:
            raise ValueError("max_ratio must be above 1 + eps_high. The paper uses 1000.")

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        bound = math.log(self.max_ratio)
        ratio = (batch.logp - batch.old).clamp(-bound, bound).exp()
        return clipped(ratio, batch.advantages, eps_low=self.eps_low, eps_high=self.eps_high)


@piece(
    "weigh", "advantage_filter", formula="z = (A - mean) / std over the step's tokens; 0 where |z| > width", source=_SOURCE,
    caveat="the released code centres the window on the mean of A instead of 0: variant=code",
)  # fmt: skip
@dataclass(frozen=True)
class AdvantageFilter:
    """Advantages become z-scores over all trained tokens of the step; what is three deviations away counts for nothing.

    Advantages that are not finite or larger than `max_abs` get 0 and take no part in the statistics (the latter is ours: one
    NaN would otherwise be everybody's).
    """

    width: float = 3.0
    """Half-width of the window, standard deviations."""
    max_abs: float = 10.0
    """Advantages beyond +-this are dropped, in reward units."""
    variant: str = "intent"
    """`intent`: the window is 0 +- width. `code`: it is mean(A) +- width, as released."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant={self.variant!r} is not known. Choose one of: {', '.join(VARIANTS)}.")
        if self.width <= 0 or self.max_abs <= 0:
            raise ValueError("width and max_abs must be above 0.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Change the advantages of all live rollouts."""
        live = [rollout for group in groups for rollout in group.live()]
        rows = [rollout.per_token_advantages() for rollout in live]
        trained = [rollout.trained() for rollout in live]
        counted = [
            a for row, mask in zip(rows, trained, strict=True) for a, m in zip(row, mask, strict=True) if m and self._sane(a)
        ]
        mean = math.fsum(counted) / len(counted) if counted else 0.0
        squares = math.fsum((a - mean) ** 2 for a in counted)
        scale = math.sqrt(squares / max(len(counted) - 1, 1) + VARIANCE_EPS)
        centre = mean if self.variant == "code" else 0.0
        set_token_advantages(live, [[self._kept(a, mean, scale, centre) for a in row] for row in rows])

    def _sane(self, advantage: float) -> bool:
        return math.isfinite(advantage) and abs(advantage) <= self.max_abs

    def _kept(self, advantage: float, mean: float, scale: float, centre: float) -> float:
        if not self._sane(advantage):
            return 0.0
        z = (advantage - mean) / scale
        return z if abs(z - centre) <= self.width else 0.0
