"""What a run trained on, over time: the share of each task or domain in every step, how hard its prompts were, and what taught."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from factory.report.plots import curve
from factory.report.read import Trained
from factory.report.svg import areas
from factory.rewards.task_stats import FILE_NAME, TaskTable

SHOWN = 11
"""Tasks with an area of their own; the rest are one area, `others`."""
BINS = 40
"""Neighbouring steps are put together to about so many."""
HARDNESS = (
    (0.0, 0.0, "never right"),
    (0.0, 0.5, "right in less than half"),
    (0.5, 1.0, "right in half or more"),
    (1.0, 1.0, "always right"),
)


@dataclass(frozen=True)
class MixturePart:
    """What is shown of one stage."""

    stage: str
    charts: list[str]
    sources: list[tuple[str, float]]
    """(task, domain or source, share of the whole stage), largest first."""


def mixture_parts(trainings: Iterable[Trained]) -> list[MixturePart]:
    """One part for each stage that says what it drew. Raises DataError for a damaged `tasks.jsonl`."""
    found = [_part(trained) for trained in trainings]
    return [part for part in found if part.charts or part.sources]


def _part(trained: Trained) -> MixturePart:
    path = trained.folder / FILE_NAME
    table = TaskTable.read(path) if path.is_file() else TaskTable(())
    charts, sources = [], _lessons(trained)
    if table.steps:
        shares = sorted(table.shares().items(), key=lambda pair: -pair[1])
        sources = shares[:SHOWN]
        charts = [areas(_drawn(table, [task for task, _ in shares]), f"{trained.name}: share of rollouts by task", xlabel="step")]
        by_pack = _by_pack(table)
        if len(by_pack) > 1:
            charts.insert(0, areas(by_pack, f"{trained.name}: share of rollouts by domain", xlabel="step"))
        charts.append(areas(_hardness(table), f"{trained.name}: tasks of a step by how often they were right", xlabel="step"))
    rows = trained.metrics
    keys = ("zero_advantage_share", "replay_share", "pool_open_share")
    charts += [
        curve(rows, keys, f"{trained.name}: groups that teach nothing, replayed rollouts"),
        curve(rows, ("groups_drawn", "groups_kept"), f"{trained.name}: groups drawn and kept"),
    ]
    return MixturePart(trained.name, [chart for chart in charts if chart], sources)


def _lessons(trained: Trained) -> list[tuple[str, float]]:
    """Share of each source of an SFT stage's lessons, as it said when it ended."""
    counts = trained.outcome.get("lessons_by_source") or {}
    total = sum(counts.values()) or 1
    return sorted(((str(name), count / total) for name, count in counts.items()), key=lambda pair: -pair[1])


def _bins(table: TaskTable) -> list[tuple[float, dict[str, tuple[int, int, int]]]]:
    """Neighbouring steps put together: mean step, and task -> (rollouts, masked, right)."""
    size = max(1, -(-len(table.steps) // BINS))
    found = []
    for start in range(0, len(table.steps), size):
        group = table.steps[start : start + size]
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for _, tasks in group:
            for task, count in tasks.items():
                for place, value in enumerate((count.rollouts, count.masked, count.right)):
                    counts[task][place] += value
        found.append((sum(step for step, _ in group) / len(group), {task: (a, b, c) for task, (a, b, c) in counts.items()}))
    return found


def _shares(table: TaskTable, name_of: Mapping[str, str], names: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for step, tasks in _bins(table):
        total = sum(rollouts for rollouts, _, _ in tasks.values()) or 1
        here: dict[str, int] = defaultdict(int)
        for task, (rollouts, _, _) in tasks.items():
            here[name_of[task]] += rollouts
        for name, points in series.items():
            points.append((step, here[name] / total))
    return series


def _drawn(table: TaskTable, tasks: list[str]) -> dict[str, list[tuple[float, float]]]:
    shown = tasks if len(tasks) <= SHOWN + 1 else tasks[:SHOWN]
    name_of = {task: task if task in shown else "others" for task in tasks}
    return _shares(table, name_of, dict.fromkeys([*shown, *(["others"] if len(shown) < len(tasks) else [])]))


def _by_pack(table: TaskTable) -> dict[str, list[tuple[float, float]]]:
    """Of a build on several packs, whose tasks are named `pack/task`."""
    name_of = {task: task.partition("/")[0] if "/" in task else "" for task in table.totals()}
    if "" in name_of.values():
        return {}
    return _shares(table, name_of, sorted(set(name_of.values()))[:SHOWN])


def _hardness(table: TaskTable) -> dict[str, list[tuple[float, float]]]:
    """Share of the rollouts of each step whose task was, in that step, never, seldom, often or always right."""
    series: dict[str, list[tuple[float, float]]] = {name: [] for _, _, name in HARDNESS}
    for step, tasks in _bins(table):
        counts = dict.fromkeys(series, 0)
        for rollouts, masked, right in tasks.values():
            if rollouts > masked:
                counts[_level(right / (rollouts - masked))] += rollouts
        total = sum(counts.values()) or 1
        for name, points in series.items():
            points.append((step, counts[name] / total))
    return series


def _level(rate: float) -> str:
    if rate in (0.0, 1.0):
        return HARDNESS[0][2] if rate == 0.0 else HARDNESS[3][2]
    return HARDNESS[1][2] if rate < 0.5 else HARDNESS[2][2]
