"""Drawing from named sets of prompts: within a set, the least drawn comes next, in random order among equals.

The samplers `mix`, `difficulty_pool`, `rlcs` and `curriculum` differ only in which set comes next. Because sets are made anew at
every draw, prompts may be retired or change their tier at any time; "least drawn first" then still means that no prompt comes a
second time before all of its set came once.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.errors import ConfigError, TrainingError, near_miss
from factory.stages.rl.context import StepContext

Heap = list[tuple[int, float, int]]
"""(times drawn, a random number, place), as a heap."""
Choose = Callable[[random.Random, Mapping[str, Heap]], str]
"""Which of the sets that are not empty comes next."""


@dataclass
class Decks:
    """How often each prompt was drawn, and the deal. The state of the samplers built on it."""

    times: dict[int, int] = field(default_factory=dict)
    """Place -> draws; places never drawn are left out."""

    def deal(self, ctx: StepContext, sets: Mapping[str, Sequence[int]], choose: Choose, num: int) -> list[int]:
        """`num` places: for each, `choose` names a set and its least drawn prompt is taken.

        Args:
            sets: name -> places; disjoint.

        Raises:
            TrainingError: all sets are empty.
        """
        rng = ctx.rng(f"deal-{sum(self.times.values())}")
        heaps: dict[str, Heap] = {}
        for name, places in sets.items():
            heap = [(self.times.get(place, 0), rng.random(), place) for place in places]
            heapq.heapify(heap)
            if heap:
                heaps[name] = heap
        if not heaps:
            raise TrainingError(
                f"rl: none of the sets {', '.join(sets)} has a prompt that may still be drawn. Give other sets a weight, loosen "
                "pieces.pool, or end the stage earlier (num_steps)."
            )
        found = []
        for _ in range(num):
            heap = heaps[choose(rng, heaps)]
            times, _, place = heap[0]
            heapq.heapreplace(heap, (times + 1, rng.random(), place))
            self.times[place] = times + 1
            found.append(place)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Draws per place."""
        return {"times": [[place, times] for place, times in sorted(self.times.items())]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.times = {int(place): int(times) for place, times in state["times"]}


def has_unseen(heap: Heap) -> bool:
    """True while some prompt of the set was never drawn."""
    return heap[0][0] == 0


def pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    """A name with probability proportional to its weight; equal chances when all weights are 0 (or too small to tell from 0)."""
    names = list(weights)
    if not sum(weights.values()) > 0:
        return names[rng.randrange(len(names))]
    return rng.choices(names, [weights[name] for name in names])[0]


def check_names(where: str, weights: Mapping[str, float], sets: Mapping[str, Sequence[int]]) -> None:
    """Raises ConfigError when a weight names a set that the pool does not have, or a set has no weight."""
    for name in weights:
        if name not in sets:
            raise ConfigError(f"rl: {where}.{name}: the pool has no such set.{near_miss(name, sets)} It has: {', '.join(sets)}.")
    missing = [name for name in sets if name not in weights]
    if missing:
        raise ConfigError(f"rl: {where} says nothing of {', '.join(missing)}. Give each a number; 0 leaves it out.")


def check_weights(name: str, weights: Mapping[str, float]) -> None:
    """Raises ValueError unless weights are finite, 0 or more, and some are above 0."""
    if any(not 0 <= weight < float("inf") for weight in weights.values()) or not sum(weights.values()) > 0:
        raise ValueError(f"{name} must be 0 or more, at least one above 0.")
