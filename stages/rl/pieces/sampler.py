"""Which prompts come next: a shuffled pass over the pool, then another, forever. Exactly resumable."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pool import PromptPool


@piece("sampler", "shuffled", formula="passes over the pool, each in a new random order", source="sampling without replacement")
@dataclass
class Shuffled:
    """Every prompt once before any comes again. Its whole state is how many places it has gone through."""

    def __post_init__(self) -> None:
        self._gone = 0
        self._pass, self._order = -1, list[int]()

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """The next `num` eligible places; on every process the same. Raises TrainingError when none is eligible."""
        pool.eligible_places()
        found: list[int] = []
        while len(found) < num:
            place = self._next(ctx.seed, len(pool))
            if pool.eligible(place):
                found.append(place)
        return found

    def _next(self, seed: int, size: int) -> int:
        number, at = divmod(self._gone, size)
        if number != self._pass:
            self._order = list(range(size))
            random.Random(f"{seed}-prompts-{number}").shuffle(self._order)
            self._pass = number
        self._gone += 1
        return self._order[at]

    def state_dict(self) -> dict[str, Any]:
        """Places gone through so far."""
        return {"gone": self._gone}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after them."""
        self._gone, self._pass = int(state["gone"]), -1
