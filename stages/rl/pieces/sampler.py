"""Which prompts come next: a shuffled pass over the pool, then another, forever. Exactly resumable."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from factory.contracts import Sample
from factory.errors import DataError


class PromptSampler:
    """Draws samples without replacement within a pass. Its whole state is how many were drawn."""

    def __init__(self, samples: Sequence[Sample], *, seed: int) -> None:
        if not samples:
            raise DataError("rl: the pack gave no training samples. Check data.paths, or raise stages.<rl>.samples.")
        self._samples = samples
        self._seed = seed
        self._drawn = 0
        self._pass = -1
        self._order: list[int] = []

    @property
    def passes(self) -> float:
        """How often the pool has been gone through."""
        return self._drawn / len(self._samples)

    def draw(self, num: int) -> list[Sample]:
        """The next `num` samples; on every process the same."""
        return [self._next() for _ in range(num)]

    def _next(self) -> Sample:
        number, place = divmod(self._drawn, len(self._samples))
        if number != self._pass:
            self._order = list(range(len(self._samples)))
            random.Random(f"{self._seed}-prompts-{number}").shuffle(self._order)
            self._pass = number
        self._drawn += 1
        return self._samples[self._order[place]]

    def state_dict(self) -> dict[str, Any]:
        """Draws so far, and the pool's size as a guard."""
        return {"drawn": self._drawn, "pool": len(self._samples)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after `drawn` draws. Raises DataError when the pool is not the one the state was made with."""
        if state["pool"] != len(self._samples):
            raise DataError(
                f"rl: the checkpoint was made with {state['pool']} prompts, the pool now has {len(self._samples)}. "
                "Restore the data, or start a new run."
            )
        self._drawn = int(state["drawn"])
