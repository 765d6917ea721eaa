"""How many prompts to draw, and when the step has enough groups that teach something.

`fixed` trains on what was drawn. `oversample` draws K times as many and keeps at most the wanted number of groups with
spread. `refill` (DAPO's dynamic sampling) keeps drawing until the wanted number is full or its budget is spent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from factory.contracts import Sample
from factory.errors import TrainingError
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group

ON_SPENT = ("error", "train_smaller", "stop")
"""What a spent budget does: raise TrainingError, train on the groups there are, or end the stage here."""


class Supply(Protocol):
    """What `collect` asks of a supply piece."""

    drop_equal: bool
    max_refills: int
    on_spent: str

    def first_draw(self, wanted: int) -> int:
        """Prompts of the first draw."""

    def choose(self, useful: list[Group], wanted: int) -> list[Group]:
        """At most `wanted` of the groups that may be trained on."""


def _check(on_spent: str) -> None:
    if on_spent not in ON_SPENT:
        raise ValueError(f"on_spent={on_spent!r} is not known. Choose one of: {', '.join(ON_SPENT)}.")


@piece("supply", "fixed", formula="draw B prompts, train on them", source="plain on-policy sampling")
@dataclass(frozen=True)
class Fixed:
    """Draws the wanted number once."""

    drop_equal: bool = False
    """Drop groups whose rewards are all equal; the step is then smaller."""

    @property
    def max_refills(self) -> int:
        """None."""
        return 0

    @property
    def on_spent(self) -> str:
        """A smaller step is what was asked for."""
        return "train_smaller"

    def first_draw(self, wanted: int) -> int:
        """As many as wanted."""
        return wanted

    def choose(self, useful: list[Group], wanted: int) -> list[Group]:
        """All."""
        return useful


@piece(
    "supply", "refill", formula="draw until B groups have 0 < #right < G, at most max_refills times more",
    source="dynamic sampling: DAPO, arXiv 2503.14476, sec. 3.2; ten draws in all as in verl's settings",
)  # fmt: skip
@dataclass(frozen=True)
class Refill:
    """DAPO's dynamic sampling, with a budget."""

    max_refills: int = 9
    on_spent: str = "error"
    """When the budget is spent: `error`, `train_smaller` or `stop`."""

    def __post_init__(self) -> None:
        _check(self.on_spent)
        if self.max_refills < 1:
            raise ValueError("max_refills must be 1 or more; supply=fixed never refills.")

    @property
    def drop_equal(self) -> bool:
        """What refilling is for."""
        return True

    def first_draw(self, wanted: int) -> int:
        """As many as wanted."""
        return wanted

    def choose(self, useful: list[Group], wanted: int) -> list[Group]:
        """The first ones drawn."""
        return useful[:wanted]


@piece(
    "supply", "oversample", formula="draw ceil(K B) prompts once, keep at most B groups with spread",
    source="ours: dynamic sampling at a cost known beforehand",
)  # fmt: skip
@dataclass(frozen=True)
class Oversample:
    """Twice the prompts in place of refills."""

    factor: float = 2.0
    on_spent: str = "train_smaller"

    def __post_init__(self) -> None:
        _check(self.on_spent)
        if self.factor < 1:
            raise ValueError("factor must be 1 or more.")

    @property
    def drop_equal(self) -> bool:
        """What oversampling is for."""
        return True

    @property
    def max_refills(self) -> int:
        """None."""
        return 0

    def first_draw(self, wanted: int) -> int:
        """`ceil(factor * wanted)`."""
        # The tiny subtraction keeps 2.0000000001 x 16 from becoming 33.
        return max(wanted, math.ceil(self.factor * wanted - 1e-6))

    def choose(self, useful: list[Group], wanted: int) -> list[Group]:
        """The first ones drawn."""
        return useful[:wanted]


@dataclass(frozen=True)
class Collected:
    """What a step's draws gave."""

    kept: list[Group]
    """The groups to train on, at most `wanted`, in draw order."""
    drawn: list[Group]
    """All groups that were generated."""
    num_refills: int
    is_spent: bool
    """True when the budget ended with fewer useful groups than wanted."""


def next_draw(first_draw: int, missing: int, num_useful: int, num_drawn: int) -> int:
    """Prompts of a refill: what is missing over the share useful so far, at most one whole first draw."""
    share = max(num_useful / num_drawn, 1.0 / first_draw)
    return min(first_draw, math.ceil(missing / share))


def collect(
    supply: Supply, wanted: int, draw: Callable[[int], list[Sample]], roll_out: Callable[[list[Sample], int], Sequence[Group]]
) -> Collected:
    """Draw, roll out and filter until the step is full or the budget is spent.

    Args:
        wanted: groups to train on.
        draw: number -> samples. roll_out: (samples, round) -> their scored groups, in order; the same on every process.

    Raises:
        TrainingError: the budget is spent and `on_spent` is `error`.
    """
    drawn: list[Group] = []
    useful: list[Group] = []
    refills = 0
    first = size = supply.first_draw(wanted)
    while True:
        groups = list(roll_out(draw(size), refills))
        drawn += groups
        useful += [group for group in groups if not supply.drop_equal or has_spread(group.values())]
        if not supply.drop_equal or len(useful) >= wanted or refills >= supply.max_refills:
            break
        size = next_draw(first, wanted - len(useful), len(useful), len(drawn))
        refills += 1
    is_spent = len(useful) < wanted
    if is_spent and supply.on_spent == "error":
        raise TrainingError(
            f"rl: only {len(useful)} of {wanted} groups had rewards that differ after {len(drawn)} prompts "
            f"({refills} refills, max_refills={supply.max_refills}). The prompts are too easy or too hard for this model: "
            "raise pieces.supply.refill.max_refills or group_size, change the data, or set on_spent=train_smaller (or stop)."
        )
    return Collected(supply.choose(useful, wanted), drawn, refills, is_spent)
