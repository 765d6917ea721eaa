"""Statistics of many tasks, kept compactly: one short line per step in `tasks.jsonl`, curves and top and bottom lists from it.

A line holds only the tasks that were drawn in its step: {"step": 7, "tasks": {"gym/sums": [8, 1, 3, 3.5, 2, 1]}}, so a
mixture of thousands of tasks costs as much as one of ten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from factory.errors import DataError

FILE_NAME = "tasks.jsonl"


@dataclass
class TaskCount:
    """Counts of one task; those of several steps add up."""

    rollouts: int = 0
    masked: int = 0
    right: int = 0
    reward: float = 0.0
    """Sum over unmasked rollouts."""
    groups: int = 0
    equal: int = 0
    """Groups whose rollouts all earned the same: they teach nothing and are filtered online."""

    def add(self, other: TaskCount) -> None:
        """Add the other's counts."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def row(self) -> list[float]:
        """The counts in the order of the fields."""
        return [round(getattr(self, one.name), 6) for one in fields(self)]

    @property
    def mean_reward(self) -> float | None:
        """Over unmasked rollouts; None without one."""
        return self.reward / (self.rollouts - self.masked) if self.rollouts > self.masked else None

    @property
    def pass_rate(self) -> float | None:
        """Share of right ones among unmasked rollouts."""
        return self.right / (self.rollouts - self.masked) if self.rollouts > self.masked else None


@dataclass(frozen=True)
class TaskTable:
    """All steps of a run."""

    steps: Sequence[tuple[int, Mapping[str, TaskCount]]]

    @classmethod
    def read(cls, path: str | Path) -> TaskTable:
        """From `tasks.jsonl`. Raises DataError naming the line."""
        steps = []
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                counts = {task: TaskCount(*map(int, v[:3]), float(v[3]), *map(int, v[4:])) for task, v in row["tasks"].items()}
                steps.append((int(row["step"]), counts))
            except (ValueError, KeyError, TypeError, AttributeError) as err:
                raise DataError(
                    f"{path}:{number}: is no line of task counts: {err!r}. Delete the file; the next run writes it anew."
                ) from err
        return cls(steps)

    def totals(self, last: int = 0) -> dict[str, TaskCount]:
        """task -> counts over all steps, or over the last so many."""
        found: dict[str, TaskCount] = {}
        for _, counts in self.steps[-last:] if last else self.steps:
            for task, count in counts.items():
                found.setdefault(task, TaskCount()).add(count)
        return found

    def shares(self) -> dict[str, float]:
        """task -> share of all rollouts."""
        totals = self.totals()
        every = sum(count.rollouts for count in totals.values()) or 1
        return {task: count.rollouts / every for task, count in totals.items()}

    def curve(self, task: str, bins: int = 20) -> list[tuple[float, float]]:
        """[(mean step, mean reward)] of one task, its appearances put into at most `bins` neighbours of equal number."""
        seen = [(step, counts[task]) for step, counts in self.steps if task in counts and counts[task].mean_reward is not None]
        size = max(1, -(-len(seen) // bins))
        points = []
        for start in range(0, len(seen), size):
            part, total = seen[start : start + size], TaskCount()
            for _, count in part:
                total.add(count)
            points.append((sum(step for step, _ in part) / len(part), float(total.mean_reward or 0.0)))
        return points

    def halves(self, min_rollouts: int = 8) -> dict[str, tuple[TaskCount, TaskCount]]:
        """task -> counts of the first and the second half of its own rollouts. Left out: tasks with fewer unmasked ones than
        `min_rollouts`, and those with a half that has none (all drawn in one step)."""
        found = {}
        for task, count in self.totals().items():
            if count.rollouts - count.masked < min_rollouts:
                continue
            halves, done = (TaskCount(), TaskCount()), 0
            for _, counts in self.steps:
                if task in counts:
                    halves[int(done * 2 >= count.rollouts)].add(counts[task])
                    done += counts[task].rollouts
            if halves[0].mean_reward is not None and halves[1].mean_reward is not None:
                found[task] = halves
        return found

    def gains(self, min_rollouts: int = 8) -> dict[str, float]:
        """task -> mean reward of its second half of rollouts minus that of its first; tasks that `halves` leaves out are too."""
        halves = self.halves(min_rollouts).items()
        return {task: float(second.mean_reward or 0.0) - float(first.mean_reward or 0.0) for task, (first, second) in halves}

    def top_and_bottom(self, most: int = 10, min_rollouts: int = 8) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        """Tasks that gained most and least, best first and worst first; for the report."""
        order = sorted(self.gains(min_rollouts).items(), key=lambda pair: (-pair[1], pair[0]))
        return order[:most], order[::-1][: min(most, max(0, len(order) - most))]


def spread(values: Iterable[float]) -> tuple[float, float, float] | None:
    """(10th percentile, median, 90th percentile) by nearest rank; None of nothing."""
    order = sorted(values)
    if not order:
        return None
    return tuple(order[min(len(order) - 1, round(share * (len(order) - 1)))] for share in (0.1, 0.5, 0.9))  # type: ignore[return-value]
