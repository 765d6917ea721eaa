"""Names that the handbook lists and names that it does not: knowing what one does not know, with exact answers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from factory.data.splits import split_of
from factory.domains.safety.world import LETTERS, NUM_KNOWN, TRADES


@cache
def handbook() -> Mapping[str, str]:
    """name -> trade, of the names that are listed. The same for every seed."""
    rng = random.Random("safety-handbook")
    names = rng.sample(_all_names(), NUM_KNOWN)
    return MappingProxyType({name: TRADES[index % len(TRADES)] for index, name in enumerate(names)})


@cache
def strangers(split: str) -> tuple[str, ...]:
    """Names that no list holds. Those of one split occur in no other, so that `unknown` cannot be learned name by name."""
    free = [name for name in _all_names() if name not in handbook()]
    # A larger share than elsewhere: 10 % of 104 names would be ten.
    return tuple(name for name in free if split_of(f"stranger {name}", {"validation": 0.25, "test": 0.35}) == split)


def _all_names() -> list[str]:
    return [first + second for first in LETTERS for second in LETTERS]
