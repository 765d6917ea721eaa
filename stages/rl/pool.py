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
    solved_in_a_row: int = 0
    """How many of the last times every live rollout was right, without a break."""
    offline_rate: float | None = None
    """Pass rate measured before this stage."""
    offline_std: float | None = None
    """Standard deviation of the rewards measured before this stage."""
    rap_d: float | None = None
    """Pass rate with the images minus pass rate without, in [-1, 1], measured before this stage."""

    @property
    def spread(self) -> float | None:
        """Standard deviation of the values: the last time's, before that the offline one, None when nothing is known."""
        return self.value_std if self.times else self.offline_std


class PromptPool:
    """Samples with their statistics; pool pieces decide which may still be drawn.

    Args:
        keeps: one function per pool piece; a prompt is eligible when all say yes.
        offline: sample id -> pass rate measured before this stage (by a `select` stage).
        offline_stds: sample id -> standard deviation of the rewards. rap_ds: sample id -> RAP's D.
        watchers: told all statistics whenever they change, for pool pieces that compare prompts with each other.
    """

    def __init__(
        self, samples: Sequence[Sample], *, keeps: Sequence[Callable[[PromptStat], bool]] = (),
        offline: Mapping[str, float] | None = None, offline_stds: Mapping[str, float] | None = None,
        rap_ds: Mapping[str, float] | None = None, watchers: Sequence[Callable[[Sequence[PromptStat]], None]] = (),
    ) -> None:  # fmt: skip
        if not samples:
            raise DataError("rl: the pack gave no training samples. Check data.paths, or raise stages.<rl>.samples.")
        self.samples = list(samples)
        rates, stds, gains = offline or {}, offline_stds or {}, rap_ds or {}
        self.stats = [
            PromptStat(
                place, pass_rate=rates.get(s.id), offline_rate=rates.get(s.id), offline_std=stds.get(s.id), rap_d=gains.get(s.id)
            )
            for place, s in enumerate(self.samples)
        ]
        self.num_tasks = len({sample.task for sample in self.samples})
        self._keeps, self._watchers = keeps, watchers
        self._tell()
        self._places = {sample.id: place for place, sample in enumerate(self.samples)}

    def __len__(self) -> int:
        return len(self.samples)

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher(self.stats)

    def eligible(self, place: int) -> bool:
        """True when every pool piece keeps the prompt."""
        return all(keeps(self.stats[place]) for keeps in self._keeps)

    def has_eligible(self) -> bool:
        """False when nothing may be drawn any more."""
        return any(self.eligible(place) for place in range(len(self)))

    def eligible_places(self) -> list[int]:
        """All eligible places, in order. Raises TrainingError when none is left."""
        found = [place for place in range(len(self)) if self.eligible(place)]
        if not found:
            raise TrainingError(
                f"rl: none of the {len(self)} prompts may be drawn any more: the pool pieces have set all aside. "
                "Add prompts (stages.<rl>.samples), loosen pieces.pool, or end the stage earlier (num_steps)."
            )
        return found

    def place_of(self, sample_id: str) -> int | None:
        """The place of that id; None when the pool has none."""
        return self._places.get(sample_id)

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
            stat.solved_in_a_row = stat.solved_in_a_row + 1 if rate == 1.0 else 0
        self._tell()

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
        self._tell()
