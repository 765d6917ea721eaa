"""Several runs side by side in one page: what differed in their settings, what came of it, what it cost, and answer by answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.config.provenance import flat
from factory.errors import ConfigError
from factory.registry.files import write_atomic
from factory.report.browser import Answers, browser_data, script_json
from factory.report.cost import Cost, cost_of
from factory.report.page import page_parts, template
from factory.report.plots import points_of, trailing
from factory.report.read import Measured, Run, read_run
from factory.report.svg import Mark, dots, lines
from factory.report.trade_offs import length_chart, mean_length

CURVES = (
    ("loss", "loss"),
    ("reward", "reward"),
    ("length", "completion length (tokens)"),
    ("entropy", "entropy (nats per token)"),
)
MOST_RUNS = 12


@dataclass(frozen=True)
class Column:
    """One run."""

    name: str
    run: Run
    kept: Measured | None
    """The eval of the kept stage; of the last one in a run that is not finished."""
    cost: Cost


def build_comparison(folders: Sequence[Path], out: Path, paired: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write one page on several runs to `out` and return it.

    Args:
        paired: run name -> difference to the first run on the questions that both were asked (`diff`, `diff_ci`, `n`).

    Raises:
        ConfigError: fewer than two runs, or more than a page can show.
        RegistryError: one of the folders is not a run folder.
    """
    if not 2 <= len(folders) <= MOST_RUNS:
        raise ConfigError(f"{len(folders)} runs were given; a comparison shows 2 to {MOST_RUNS}. Name so many runs.")
    columns = read_columns(folders)
    facts = {
        "columns": columns, "overview": overview(columns), "settings": differing([column.run.config for column in columns]),
        "stages": _stages(columns), "tasks": _tasks(columns), "paired": paired or {}, "charts": _charts(columns), "curves": _curves(columns),
    }  # fmt: skip
    answers = browser_data([Answers(f"{column.name}: {column.kept.stage}", column.kept) for column in columns if column.kept])
    page = template("report/compare.html.jinja").render(
        facts
        | page_parts()
        | {"browser": answers, "browser_json": script_json(answers), "title": f"{len(columns)} runs side by side"}
    )
    write_atomic(out, page)
    return out


def read_columns(folders: Sequence[Path]) -> list[Column]:
    """The runs in the order given, with names that differ: the folder's, numbered when two are the same."""
    seen: Counter[str] = Counter()
    columns = []
    for folder in folders:
        run = read_run(Path(folder))
        seen[run.folder.name] += 1
        name = run.folder.name if seen[run.folder.name] == 1 else f"{run.folder.name} ({seen[run.folder.name]})"
        chosen = run.result.get("chosen")
        kept = next((one for one in run.evals if one.stage == chosen), run.evals[-1] if run.evals else None)
        columns.append(Column(name, run, kept, cost_of(run)))
    return columns


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Setting -> its value in each run, of those that are not the same everywhere; `None` where a run has no such setting."""
    tables = [flat(config) for config in configs]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    rows = {key: [table.get(key) for table in tables] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def overview(columns: Sequence[Column]) -> list[tuple[str, str, list[Any]]]:
    """(what, format, value of each run) of the head table."""

    def of_kept(read: Any) -> list[Any]:
        return [read(column.kept) if column.kept else None for column in columns]

    metric = next((column.kept.primary["name"] for column in columns if column.kept), "accuracy")
    return [
        ("domain", "text", [column.run.config.get("domain") for column in columns]),
        ("recipe", "text", [column.run.config.get("recipe") for column in columns]),
        ("base", "text", [column.run.config.get("base") for column in columns]),
        ("seed", "text", [column.run.config.get("seed") for column in columns]),
        ("status", "text", [column.run.record.get("status", "unknown") for column in columns]),
        ("kept stage", "text", of_kept(lambda kept: kept.stage)),
        (f"test {metric}", "share", of_kept(lambda kept: kept.primary["value"])),
        ("95 % interval", "interval", of_kept(lambda kept: kept.primary["ci"])),
        ("questions", "count", of_kept(lambda kept: kept.primary["n"])),
        ("blind control", "share", of_kept(lambda kept: kept.figures.get("blind", {}).get("primary", {}).get("value"))),
        ("mean tokens of an answer", "plain", of_kept(lambda kept: mean_length(kept.figures))),
        ("wall time", "span", [column.cost.seconds for column in columns]),
        ("device-hours", "plain", [column.cost.device_hours for column in columns]),
        ("tokens trained on", "count", [column.cost.trained for column in columns]),
        ("tokens generated", "count", [column.cost.generated for column in columns]),
    ]


def _stages(columns: Sequence[Column]) -> dict[str, list[Measured | None]]:
    """stage -> its eval in each run, in the order in which the runs have them."""
    names = list(dict.fromkeys(measured.stage for column in columns for measured in column.run.evals))
    return {name: [next((m for m in column.run.evals if m.stage == name), None) for column in columns] for name in names}


def _tasks(columns: Sequence[Column]) -> dict[str, list[Mapping[str, Any] | None]]:
    """task -> figures of the kept stage in each run."""
    tables = [column.kept.figures["splits"]["test"]["tasks"] if column.kept else {} for column in columns]
    return {task: [table.get(task) for table in tables] for task in sorted({name for table in tables for name in table})}


def _charts(columns: Sequence[Column]) -> list[str]:
    known = [
        (number, column, column.kept)
        for number, column in enumerate(columns)
        if column.kept and column.kept.primary["value"] is not None
    ]
    if not known:
        return []
    metric, names = known[0][2].primary["name"], [column.name for column in columns]
    marks, hours = [], []
    for number, column, kept in known:
        value, (low, high) = kept.primary["value"], kept.primary["ci"] or (None, None)
        marks.append(Mark(number, value, column.name, low, high, number))
        hours.append(Mark(column.cost.device_hours, value, column.name, low, high, number))
    places = [str(number + 1) for number in range(len(columns))]
    evals = [(measured, number) for number, column in enumerate(columns) for measured in column.run.evals]
    return [
        dots(marks, f"Held-out {metric} of the kept stage, with 95 % intervals", xlabel="run", ylabel="", groups=names, xnames=places),
        dots(hours, f"Held-out {metric} against device-hours", xlabel="device-hours", ylabel=metric),
        length_chart([one for one, _ in evals], title=f"Held-out {metric} against length, every stage", groups=names, of=[n for _, n in evals]) or "",
    ]  # fmt: skip


def _curves(columns: Sequence[Column]) -> dict[str, list[str]]:
    """stage -> charts with one line for each run that has the stage."""
    stages = list(dict.fromkeys(trained.name for column in columns for trained in column.run.trainings))
    found: dict[str, list[str]] = {}
    for stage in stages:
        rows = {c.name: next((t.metrics for t in c.run.trainings if t.name == stage), []) for c in columns}
        charts = [
            lines(
                {name: points_of(own, key) for name, own in rows.items()},
                f"{stage}: {title}",
                xlabel="optimiser step",
                smooth=trailing,
            )
            for key, title in CURVES
        ]
        found[stage] = [chart for chart in charts if chart]
    return {stage: charts for stage, charts in found.items() if charts}
