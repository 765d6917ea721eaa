"""Prioritized advantage distillation of ReVisual-R1 (arXiv 2506.04207): train on rollouts whose |A| lies between two thresholds.

Paper and code are two pieces, because they agree neither in the weights nor in the size of the draw. Warning of the guide:
with advantages divided by the deviation, a lone success of a binary reward has |A| 2.47 and is thrown away by an upper
threshold of 0.97; use mean-only advantages, or thresholds of the advantage's own scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.draws import draw, live_rollouts, magnitude, normalised, with_only
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout


def softmax_weights(magnitudes: Sequence[float], *, low: float, high: float, tau: float) -> list[float]:
    """`softmax(|A| / tau)` over those with low <= |A| <= high, 0 for the others."""
    kept = [low <= value <= high for value in magnitudes]
    top = max((value for value, is_kept in zip(magnitudes, kept, strict=True) if is_kept), default=0.0)
    return normalised([math.exp((v - top) / tau) if is_kept else 0.0 for v, is_kept in zip(magnitudes, kept, strict=True)])


def power_weights(magnitudes: Sequence[float], *, low: float, high: float, power: float) -> list[float]:
    """`(|A| + 1e-8)^power`, normalised, over those with low < |A| < high, 0 for the others."""
    return normalised([(value + 1e-8) ** power if low < value < high else 0.0 for value in magnitudes])


def _check(low: float, high: float, share: float) -> None:
    if not 0 <= low < high or share <= 0:
        raise ValueError("needs 0 <= low < high, and share above 0.")


def _drawn(
    ctx: StepContext, groups: Sequence[Group], rollouts: Sequence[tuple[int, Rollout]], weights: Sequence[float], num: int,
    *, with_replacement: bool,
) -> list[Group]:  # fmt: skip
    """The groups with the drawn rollouts only; all of them when none may be drawn."""
    num_kept = sum(weight > 0 for weight in weights)
    ctx.metrics["pad/kept_share"] = num_kept / max(len(weights), 1)
    if not num_kept:
        return list(groups)
    found = draw(ctx.rng("pad"), weights, num, with_replacement=with_replacement)
    return with_only(groups, [rollouts[i] for i in sorted(found)])


def _weights_of(
    rollouts: Sequence[tuple[int, Rollout]], of: Callable[[list[float]], list[float]], *, summed: bool
) -> list[float]:
    return of([magnitude(rollout, summed=summed) for _, rollout in rollouts])


@piece(
    "resample", "pad_paper", source="ReVisual-R1, arXiv 2506.04207",
    formula="keep low <= |A| <= high; draw min(share |B|, #kept) with P = softmax(|A| / tau), tau 1.0 -> 0.3",
    caveat="thresholds and share are not given; drawn without replacement, because the number is capped by what was kept",
)  # fmt: skip
@dataclass(frozen=True)
class PadPaper:
    """The paper's form."""

    low: float
    """Smallest |A| that is kept."""
    high: float
    """Largest |A| that is kept."""
    share: float
    """rho: rollouts drawn, as a share of the step's."""
    tau_start: float = 1.0
    tau_end: float = 0.3
    """Temperature of the softmax, in a line over the stage."""

    def __post_init__(self) -> None:
        _check(self.low, self.high, self.share)
        if self.tau_start <= 0 or self.tau_end <= 0:
            raise ValueError("tau_start and tau_end must be above 0.")

    def tau(self, ctx: StepContext) -> float:
        """The temperature at this step."""
        return self.tau_start + (self.tau_end - self.tau_start) * ctx.progress

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups with the drawn rollouts only."""
        rollouts, tau = live_rollouts(groups), self.tau(ctx)
        weights = _weights_of(
            rollouts, lambda found: softmax_weights(found, low=self.low, high=self.high, tau=tau), summed=False
        )  # fmt: skip
        return _drawn(ctx, groups, rollouts, weights, int(self.share * len(rollouts)), with_replacement=False)


@piece(
    "resample", "pad_code", source="ReVisual-R1's released code, https://github.com/CSfufu/Revisual-R1",
    formula="keep low < |A| < high; draw int(share |B|) with replacement, P ~ (|A| + 1e-8)^power; none kept: the whole batch",
    caveat="the code sums |A| over a rollout's tokens unless told to divide by the length; divided is the default here, because the "
    "thresholds lie below 1",
)  # fmt: skip
@dataclass(frozen=True)
class PadCode:
    """The released code's form."""

    low: float = 0.03
    high: float = 0.97
    power: float = 1.5
    share: float = 1.5
    """Rollouts drawn, as a share of the step's."""
    summed: bool = False
    """Sum |A| over the tokens of a rollout instead of taking their mean."""

    def __post_init__(self) -> None:
        _check(self.low, self.high, self.share)
        if self.power < 0:
            raise ValueError("power must be 0 or more.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups with the drawn rollouts, some of them several times."""
        rollouts = live_rollouts(groups)
        weights = _weights_of(
            rollouts, lambda found: power_weights(found, low=self.low, high=self.high, power=self.power), summed=self.summed
        )  # fmt: skip
        return _drawn(ctx, groups, rollouts, weights, int(self.share * len(rollouts)), with_replacement=True)
