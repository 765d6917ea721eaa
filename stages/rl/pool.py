"""The pool of training prompts and what the run has learned about each of them. Exactly resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.contracts import Sample
from factory.errors import DataError, TrainingError
from factory.stages.rl.rollouts import Group


@dataclass
class PromptStat:
    """What is known of one prompt."""

    place: int
    """Position in the pool."""
    times: int = 0
    """How often it was rolled out."""
    pass_rate: float | None = None
    """Share of right rollouts the last time; before that, the offline rate if one was measured."""
    last_step: int = -1
    """RL step of the last time."""
    value_std: float = 0.0
    """Population standard deviation of its rollouts' values the last time, reward units."""


class PromptPool:
    """Samples with their statistics; pool pieces decide which may still be drawn.

    Args:
        keeps: one function per pool piece; a prompt is eligible when all say yes.
        offline: sample id -> pass rate measured before this stage (by a `select` stage).
    """

    def __init__(
        self, samples: Sequence[Sample], *, keeps: Sequence[Callable[[PromptStat], bool]] = (),
        offline: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if not samples:
            raise DataError("rl: the pack gave no training samples. Check data.paths, or raise stages.<rl>.samples.")
        self.samples = list(samples)
        self.stats = [PromptStat(place, pass_rate=(offline or {}).get(s.id)) for place, s in enumerate(self.samples)]
        self._keeps = keeps
        self._places = {sample.id: place for place, sample in enumerate(self.samples)}

    def __len__(self) -> int:
        return len(self.samples)

    def eligible(self, place: int) -> bool:
        """True when every pool piece keeps the prompt."""
        return all(keeps(self.stats[place]) for keeps in self._keeps)

    def eligible_places(self) -> list[int]:
        """All eligible places, in order. Raises TrainingError when none is left."""
        found = [place for place in range(len(self)) if self.eligible(place)]
        if not found:
            raise TrainingError(
                f"rl: none of the {len(self)} prompts may be drawn any more: the pool pieces have set all aside. "
                "Add prompts (stages.<rl>.samples), loosen pieces.pool, or end the stage earlier (num_steps)."
            )
        return found

    def sample_of(self, sample_id: str) -> Sample:
        """The pool's sample of that id. Raises KeyError."""
        return self.samples[self._places[sample_id]]

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Take in the results of a step's groups (all that were drawn)."""
        for group in groups:
            place = self._places.get(group.sample.id)
            rate = group.pass_rate()
            if place is None or rate is None:
                continue
            values = [value for value in group.values() if value is not None]
            mean = sum(values) / len(values)
            stat = self.stats[place]
            stat.times, stat.pass_rate, stat.last_step = stat.times + 1, rate, step
            stat.value_std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5

    def state_dict(self) -> dict[str, Any]:
        """Statistics of the prompts that were seen, and the pool's size as a guard."""
        return {"pool": len(self), "seen": [asdict(stat) for stat in self.stats if stat.times]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises DataError when the pool is not the one the state was made with."""
        if state["pool"] != len(self):
            raise DataError(
                f"rl: the checkpoint was made with {state['pool']} prompts, the pool now has {len(self)}. "
                "Restore the data, or start a new run."
            )
        for row in state["seen"]:
            self.stats[row["place"]] = PromptStat(**row)
