"""The part of the report on a mixture of many tasks, from a stage's `tasks.jsonl`: who gained, who did not, and curves.

Drawn as small SVG by hand: a chart of matplotlib is 15 kB, one of these about 1 kB, so that 1,500 tasks stay a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from factory.report.plots import PALETTE
from factory.report.read import Trained
from factory.rewards.task_stats import FILE_NAME, TaskCount, TaskTable

FEWEST = 8
"""Tasks below which a stage has no part of its own: `metrics.jsonl` has columns for so few."""
LISTED = 10
"""Tasks listed that gained most, and least."""
CURVES = 24
"""Curves drawn, of the tasks with most rollouts."""
CURVE_BINS = 20
BARS = 10
"""Bars of the histogram of pass rates: [0, 0.1), ..., [0.9, 1]."""

_WIDTH, _HEIGHT = 168.0, 64.0


@dataclass(frozen=True)
class TaskRow:
    """One task: rollouts, pass rate of the first and second half of its rollouts, and the change of its mean reward."""

    task: str
    rollouts: int
    first: float | None
    last: float | None
    gain: float


@dataclass(frozen=True)
class TaskCurve:
    """One small chart."""

    task: str
    rollouts: int
    svg: str


@dataclass(frozen=True)
class TaskPart:
    """What is shown of one stage."""

    stage: str
    num_tasks: int
    num_rollouts: int
    num_masked: int
    num_paired: int
    """Tasks with enough rollouts in both halves to say what changed."""
    never: int
    """Tasks no unmasked rollout of which was right."""
    always: int
    """Tasks all unmasked rollouts of which were right."""
    equal_share: float
    """Share of groups whose rollouts all earned the same, which teach nothing."""
    top: Sequence[TaskRow]
    bottom: Sequence[TaskRow]
    most_masked: Sequence[tuple[str, int, int]]
    """(task, masked, rollouts), most first."""
    histogram: str
    curves: Sequence[TaskCurve]


def task_parts(trainings: Iterable[Trained]) -> list[TaskPart]:
    """One part for every stage that left counts of `FEWEST` tasks or more. Raises DataError naming a line that is none."""
    found = []
    for trained in trainings:
        path = trained.folder / FILE_NAME
        table = TaskTable.read(path) if path.is_file() else TaskTable(())
        totals = table.totals()
        if len(totals) >= FEWEST:
            found.append(_part(trained.name, table, totals))
    return found


def _part(stage: str, table: TaskTable, totals: dict[str, TaskCount]) -> TaskPart:
    halves = table.halves()
    best, worst = table.top_and_bottom(LISTED)
    judged = [count for count in totals.values() if count.pass_rate is not None]
    groups = sum(count.groups for count in totals.values())
    masked = sorted(totals.items(), key=lambda pair: (-pair[1].masked, pair[0]))

    def rows(pairs: Iterable[tuple[str, float]]) -> list[TaskRow]:
        return [
            TaskRow(task, totals[task].rollouts, halves[task][0].pass_rate, halves[task][1].pass_rate, gain)
            for task, gain in pairs
        ]

    return TaskPart(
        stage=stage, num_tasks=len(totals), num_rollouts=sum(count.rollouts for count in totals.values()),
        num_masked=sum(count.masked for count in totals.values()), num_paired=len(halves),
        never=sum(count.pass_rate == 0.0 for count in judged), always=sum(count.pass_rate == 1.0 for count in judged),
        equal_share=sum(count.equal for count in totals.values()) / groups if groups else 0.0,
        top=rows(best), bottom=rows(worst), most_masked=[(task, c.masked, c.rollouts) for task, c in masked[:LISTED] if c.masked],
        histogram=_histogram(halves.values(), judged), curves=_curves(table, totals),
    )  # fmt: skip


def bars_of(counts: Iterable[TaskCount]) -> list[int]:
    """Number of tasks whose pass rate is in each of `BARS` equal intervals of [0, 1]; 1 itself is in the last. In whole
    numbers, so that 3 of 10 is never 0.29999."""
    bars = [0] * BARS
    for count in counts:
        live = count.rollouts - count.masked
        if live:
            bars[min(BARS - 1, count.right * BARS // live)] += 1
    return bars


def _histogram(halves: Iterable[tuple[TaskCount, TaskCount]], judged: Sequence[TaskCount]) -> str:
    """Pass rates of tasks in the first and second half of their rollouts; of all rollouts when no task was drawn twice."""
    pairs = list(halves)
    if pairs:
        counts = [("first half", bars_of(one for one, _ in pairs)), ("second half", bars_of(two for _, two in pairs))]
    else:
        counts = [("all rollouts", bars_of(judged))]
    highest = max((max(bars) for _, bars in counts), default=0) or 1
    width, height, left, step = 420.0, 150.0, 30.0, 38.0
    thick = (step - 8.0) / len(counts)
    shapes = []
    for side, (label, bars) in enumerate(counts):
        colour = PALETTE[side]
        for index, count in enumerate(bars):
            tall = 110.0 * count / highest
            x = left + step * index + thick * side
            tip = f"{label}: {count} tasks with a pass rate from {index / BARS:.1f} to {(index + 1) / BARS:.1f}"
            shapes.append(
                f'<rect x="{x:g}" y="{130 - tall:.1f}" width="{thick:g}" height="{tall:.1f}" fill="{colour}"><title>{tip}</title></rect>'
            )
        shapes.append(f'<text x="{left + 90 * side:g}" y="12" fill="{colour}">{label}</text>')
    ticks = "".join(
        f'<text x="{left + step * index:g}" y="145" fill="#666">{index / BARS:.1f}</text>' for index in range(0, BARS + 1, 2)
    )
    axis = f'<text x="0" y="24" fill="#666">{highest}</text><path d="M{left:g} 130H{width - 8:g}" stroke="#999"/>'
    return _svg(width, height, "".join(shapes) + ticks + axis, "number of tasks by pass rate")


def _curves(table: TaskTable, totals: dict[str, TaskCount]) -> list[TaskCurve]:
    most = sorted(totals.items(), key=lambda pair: (-pair[1].rollouts, pair[0]))[:CURVES]
    drawn = [(task, count.rollouts, table.curve(task, CURVE_BINS)) for task, count in most]
    steps = [step for step, _ in table.steps]
    span = (float(min(steps, default=0)), float(max(steps, default=1)))
    values = [value for _, _, points in drawn for _, value in points]
    scale = (min([0.0, *values]), max([1.0, *values]))
    return [TaskCurve(task, rollouts, small_curve(points, span, scale)) for task, rollouts, points in drawn]


def small_curve(points: Sequence[tuple[float, float]], span: tuple[float, float], scale: tuple[float, float]) -> str:
    """A line through (step, mean reward), dots at the points; all charts of a stage share `span` (steps) and `scale` (rewards)."""

    def at(step: float, value: float) -> tuple[float, float]:
        x = 4 + (_WIDTH - 8) * (step - span[0]) / max(span[1] - span[0], 1e-9)
        return x, _HEIGHT - 4 - (_HEIGHT - 8) * (value - scale[0]) / max(scale[1] - scale[0], 1e-9)

    placed = [at(step, value) for step, value in points]
    low, high = at(span[0], 0.0)[1], at(span[0], 1.0)[1]
    grid = "".join(f'<path d="M4 {y:.1f}H{_WIDTH - 4:g}" stroke="#ddd6cc"/>' for y in (low, high))
    line = "".join(f"{'M' if number == 0 else 'L'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(placed))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6"/>' for x, y in placed)
    body = f'{grid}<path d="{line}" fill="none" stroke="{PALETTE[0]}" stroke-width="1.5"/><g fill="{PALETTE[0]}">{dots}</g>'
    told = f"mean reward {points[0][1]:.2f} to {points[-1][1]:.2f}" if points else "every rollout was masked"
    return _svg(_WIDTH, _HEIGHT, body if placed else grid, told)


def _svg(width: float, height: float, body: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" font-size="10" role="img">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
