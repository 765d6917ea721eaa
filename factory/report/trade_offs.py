"""What was paid for accuracy: length of answers, and the parts of the reward that may rise while answers get worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from factory.report.read import Measured, Trained
from factory.report.svg import Mark, dots

BINS = 8
"""Dots of a path through an RL stage, each a mean over an equal number of steps."""


def mean_length(figures: Mapping[str, Any]) -> float | None:
    """Mean tokens of the test answers, from the means of right and wrong ones; None for scores that are neither."""
    test = figures["splits"]["test"]
    length, statuses = test["length"], test["statuses"]
    counts = {"right": statuses.get("ok", 0), "wrong": statuses.get("wrong", 0) + statuses.get("unparsable", 0)}
    known = [(length.get(side), count) for side, count in counts.items() if count and length.get(side) is not None]
    total = sum(count for _, count in known)
    return sum(mean * count for mean, count in known) / total if total else None


def length_chart(evals: Sequence[Measured], *, title: str = "", groups: Sequence[str] = (), of: Sequence[int] = ()) -> str | None:
    """Accuracy against mean length, a dot for every eval.

    Args:
        groups: names of runs, for several in one chart; `of` is the run of each eval.
    """
    marks = []
    for number, measured in enumerate(evals):
        value, length = measured.primary["value"], mean_length(measured.figures)
        if value is not None and length is not None:
            low, high = measured.primary["ci"] or (None, None)
            marks.append(Mark(length, value, measured.stage, low, high, of[number] if of else number))
    if not marks:
        return None
    name = evals[0].primary["name"]
    return dots(
        marks, title or f"Held-out {name} against length of the answer", xlabel="mean tokens of a test answer", ylabel=name,
        groups=groups, joined=bool(of), has_labels=not of,
    )  # fmt: skip


def reward_charts(trained: Trained) -> list[str]:
    """A path through an RL stage for each part of the reward: how often answers were right, against what the part earned.

    A path that goes up and to the left earns reward by being less right. Empty for a stage without tasks' pass rates.
    """
    rows = [(row, rate) for row in trained.metrics if (rate := pass_rate(row)) is not None]
    parts = sorted({key for row, _ in rows for key in row if key.startswith("reward/") and key.count("/") == 1})
    charts = []
    for part in parts:
        points = [(rate, float(row[part])) for row, rate in rows if isinstance(row.get(part), (int, float))]
        bins = binned(points, BINS)
        if len(bins) < 2 or len({round(y, 9) for _, y in bins}) < 2:
            continue
        marks = [
            Mark(x, y, "start" if number == 0 else "end" if number == len(bins) - 1 else "") for number, (x, y) in enumerate(bins)
        ]
        name = part.removeprefix("reward/")
        charts.append(
            dots(
                marks,
                f"{trained.name}: reward part {name} against right answers",
                xlabel="share of rollouts right",
                ylabel=name,
                joined=True,
            )
        )
    return charts


def pass_rate(row: Mapping[str, Any]) -> float | None:
    """Share of right rollouts of one RL step: pass rates of its tasks weighed with their shares; None when it has none."""
    tasks = [key.removesuffix("/pass") for key in row if key.startswith("task/") and key.endswith("/pass")]
    known = [(row[f"{task}/pass"], row.get(f"{task}/share", 0.0)) for task in tasks]
    total = sum(share for _, share in known)
    return sum(rate * share for rate, share in known) / total if total else None


def binned(points: Sequence[tuple[float, float]], bins: int) -> list[tuple[float, float]]:
    """Means over at most `bins` neighbouring groups, equal in number up to one."""
    edges = [round(number * len(points) / bins) for number in range(bins + 1)]
    groups = [points[low:high] for low, high in pairwise(edges) if high > low]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
