"""Which prompts may still be drawn: pool pieces. A prompt of which nothing is known yet stays in, so that it can be measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.errors import DataError
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pool import PromptStat

EQUAL = 1e-9
"""Values whose standard deviation is below this are equal."""
RATES = ("latest", "offline")


@piece(
    "pool", "retire_solved", formula="set aside after pass rate 1 in the last `times` draws",
    source="the retired set of ExGRPO, arXiv 2510.02245 (times 1)",
    caveat="a retired prompt never comes back, even if the policy forgets it",
)  # fmt: skip
@dataclass(frozen=True)
class RetireSolved:
    """What is solved teaches nothing more. The count lies with the prompt's statistics, so it is in every checkpoint."""

    times: int = 1
    """Draws in a row in which every live rollout was right."""

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError("times must be 1 or more.")

    def keeps(self, stat: PromptStat) -> bool:
        """False once the prompt was solved so often in a row."""
        return stat.solved_in_a_row < self.times


@piece(
    "pool", "window", formula="above < p < below", source="0 < p < 1: OREAL, arXiv 2502.06781; Intern-S1, arXiv 2508.15763",
    caveat="with rate=latest one unlucky group of failures sets a hard prompt aside for good; with rate=offline nothing moves",
)  # fmt: skip
@dataclass(frozen=True)
class PassWindow:
    """Neither hopeless nor solved. Both ends are open."""

    above: float | None = 0.0
    """null asks nothing."""
    below: float | None = 1.0
    """null asks nothing."""
    rate: str = "latest"
    """`latest`: the last draw's pass rate, before that the offline one; `offline`: as a select stage measured it."""

    def __post_init__(self) -> None:
        if self.rate not in RATES:
            raise ValueError(f"rate must be one of: {', '.join(RATES)}.")
        low, high = (-math.inf if self.above is None else self.above), (math.inf if self.below is None else self.below)
        if low >= high:
            raise ValueError("above must be less than below, or no prompt is ever kept.")

    def keeps(self, stat: PromptStat) -> bool:
        """True inside the window, and for a prompt that was not measured."""
        rate = stat.offline_rate if self.rate == "offline" else stat.pass_rate
        if rate is None:
            return True
        return (self.above is None or rate > self.above) and (self.below is None or rate < self.below)


@piece(
    "pool", "variance_top", formula="std(values) >= the q-quantile of all, or among the `top` largest",
    source="Temporal-R1 (guides B9.5): keep samples of high reward variance; its threshold is not published",
    caveat="a prompt below the threshold is not drawn again, so its figure stays what it was; groups without spread are never kept",
)  # fmt: skip
@dataclass
class VarianceTop:
    """The prompts on which the policy is undecided. Give exactly one of `q` and `top`; no source has a value."""

    q: float | None = None
    """In [0, 1): 0.5 keeps the upper half of the measured prompts."""
    top: int | None = None
    """How many measured prompts to keep; equals go by their place in the pool."""

    def __post_init__(self) -> None:
        check_cut(self.q, self.top)
        self._kept = frozenset[int]()

    def look(self, stats: Sequence[PromptStat]) -> None:
        """Compare all prompts, anew after every step. A pure function of the statistics, hence no state of its own."""
        self._kept = frozenset(undecided(stats, self.q, self.top))

    def keeps(self, stat: PromptStat) -> bool:
        """True for the chosen ones and for prompts not measured yet."""
        return stat.spread is None or stat.place in self._kept


@piece(
    "pool", "rap", formula="D = (#right with images - #right without) / M >= min_d", source="RAP (guides B9.3); B15 row RAP D",
    caveat="only the D score: the attention rule and the replacement module have no published rule",
)  # fmt: skip
@dataclass(frozen=True)
class NeedsImages:
    """Prompts that cannot be answered without their images. Needs `prompts_from` a select stage with `blind_rollouts`."""

    min_d: float = 0.5

    def __post_init__(self) -> None:
        if not -1 <= self.min_d <= 1:
            raise ValueError("min_d is a difference of pass rates, in [-1, 1].")

    def look(self, stats: Sequence[PromptStat]) -> None:
        """Raises DataError when no prompt has a D score."""
        if all(stat.rap_d is None for stat in stats):
            raise DataError(
                "rl: pieces.pool.rap: no prompt has a D score. Set prompts_from to a select stage with blind_rollouts=8, "
                "or take the piece out (pieces.pool.rap=null)."
            )

    def keeps(self, stat: PromptStat) -> bool:
        """True for a known D of at least `min_d` (1e-9 below it counts, since rates are rounded)."""
        return stat.rap_d is not None and stat.rap_d >= self.min_d - 1e-9


def check_cut(q: float | None, top: int | None) -> None:
    """Raises ValueError unless exactly one of the two is given, and in range."""
    if (q is None) == (top is None):
        raise ValueError("give q (a quantile) or top (a number), one of the two: no source states a value.")
    if q is not None and not 0 <= q < 1:
        raise ValueError("q must be in [0, 1).")
    if top is not None and top < 1:
        raise ValueError("top must be 1 or more.")


def undecided(stats: Sequence[PromptStat], q: float | None, top: int | None) -> list[int]:
    """Places of the measured prompts of the largest spread, largest first. Those without any spread are never among them."""
    known = sorted((-stat.spread, stat.place) for stat in stats if stat.spread is not None)
    if top is not None:
        found = known[:top]
    else:
        assert q is not None, "checked when the piece was made"
        threshold = quantile([-spread for spread, _ in reversed(known)], q) if known else 0.0
        found = [(spread, place) for spread, place in known if -spread >= threshold - EQUAL]
    return [place for spread, place in found if -spread > EQUAL]


def quantile(rising: Sequence[float], q: float) -> float:
    """Linear interpolation at place `q * (n - 1)` of values in rising order; at least one value."""
    at = q * (len(rising) - 1)
    low, high = rising[math.floor(at)], rising[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))
