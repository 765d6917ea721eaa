"""How many prompts to draw, and when the step has enough groups that teach something.

`fixed` trains on what was drawn. `oversample` draws K times as many and keeps at most the wanted number of groups with
spread. `refill` (DAPO's dynamic sampling) keeps drawing until the wanted number is full or its budget is spent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from factory.contracts import Sample
from factory.errors import ConfigError, TrainingError

Group = TypeVar("Group")

ON_SPENT = ("error", "train_smaller", "stop")
"""What a spent refill budget does: raise TrainingError, train on the groups there are, or end the stage here."""


@dataclass(frozen=True)
class Supply:
    """The settings of one step's prompt draws."""

    wanted: int
    """Groups to train on."""
    oversample: float = 1.0
    """Prompts of the first draw = `ceil(oversample * wanted)`."""
    max_refills: int = 0
    """Further draws allowed."""
    drop_equal: bool = False
    """Drop groups whose scores are all equal (or that have fewer than two live rollouts)."""
    on_spent: str = "error"

    def __post_init__(self) -> None:
        if self.on_spent not in ON_SPENT:
            raise ConfigError(f"rl: on_spent={self.on_spent!r} is not known. Choose one of: {', '.join(ON_SPENT)}.")

    def first_draw(self) -> int:
        """Prompts of the first draw."""
        # The tiny subtraction keeps 2.0000000001 x 16 from becoming 33.
        return max(self.wanted, math.ceil(self.oversample * self.wanted - 1e-6))

    def next_draw(self, num_kept: int, num_drawn: int) -> int:
        """Prompts of a refill: what is missing over the share kept so far, at most one whole first draw."""
        missing = self.wanted - num_kept
        share = max(num_kept / num_drawn, 1.0 / self.first_draw())
        return min(self.first_draw(), math.ceil(missing / share))


@dataclass(frozen=True)
class Collected(Generic[Group]):
    """What a step's draws gave."""

    kept: list[Group]
    """The groups to train on, at most `wanted`, in draw order."""
    drawn: list[Group]
    """All groups that were generated."""
    num_refills: int
    is_spent: bool
    """True when the refill budget ended with fewer kept groups than wanted."""


def collect(
    supply: Supply,
    draw: Callable[[int], list[Sample]],
    rollout: Callable[[list[Sample], int], list[Group]],
    is_useful: Callable[[Group], bool],
) -> Collected[Group]:
    """Draw, roll out and filter until the step is full or the budget is spent.

    Args:
        draw: the sampler. rollout: (samples, round) -> their scored groups, in order. is_useful: keeps a group
            when `supply.drop_equal`; must give the same answer on every process.

    Raises:
        TrainingError: the budget is spent and `on_spent` is `error`.
    """
    drawn: list[Group] = []
    kept: list[Group] = []
    refills = 0
    size = supply.first_draw()
    while True:
        groups = rollout(draw(size), refills)
        drawn += groups
        kept += [group for group in groups if not supply.drop_equal or is_useful(group)]
        if not supply.drop_equal or len(kept) >= supply.wanted or refills >= supply.max_refills:
            break
        size = supply.next_draw(len(kept), len(drawn))
        refills += 1
    is_spent = len(kept) < supply.wanted
    if is_spent and supply.on_spent == "error":
        raise TrainingError(
            f"rl: only {len(kept)} of {supply.wanted} groups had rewards that differ after {len(drawn)} prompts "
            f"({refills} refills, max_refills={supply.max_refills}). The prompts are too easy or too hard for this model: "
            "raise max_refills or group_size, change the data, or set on_spent=train_smaller (or stop)."
        )
    return Collected(kept[: supply.wanted], drawn, refills, is_spent)
