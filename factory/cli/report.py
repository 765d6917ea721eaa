"""`factory report`: write the page of one run again, or put several runs side by side in one page."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, interval, say, table
from factory.errors import FactoryError, RegistryError, near_miss

if TYPE_CHECKING:
    from factory.report.side_by_side import Column

RESAMPLES = 10_000
"""Of the bootstrap, for a run that does not say `eval.bootstrap`."""


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs: folders, or names under FACTORY_HOME/runs.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write the page of several runs; without it under FACTORY_HOME/reports."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a run's report again, or one page that puts several runs side by side. One offline HTML file; nothing is trained."""
    folders = [run_folder(name) for name in runs]
    if len(folders) == 1 and out is None:
        from factory.report import build_report

        path = build_report(folders[0])
        emit_json({"runs": [str(folders[0])], "report": str(path)}) if as_json else say(f"report   {path}")
        return
    from factory.registry.home import Home
    from factory.report.side_by_side import build_comparison, read_columns

    columns = read_columns(folders)
    paired = {column.name: against_first(columns[0], column) for column in columns[1:]}
    digest = hashlib.sha256("\n".join(map(str, folders)).encode()).hexdigest()[:8]
    path = build_comparison(folders, out or Home.find().root / "reports" / f"compare-{digest}.html", paired)
    if as_json:
        emit_json({"runs": [str(folder) for folder in folders], "report": str(path), "paired": paired})
        return
    say(table(("run", "kept", "test", "paired difference", "95 % interval", "n"), [_row(column, paired) for column in columns]))
    say(f"report   {path}")


def run_folder(name: str) -> Path:
    """A run's folder from its path or name. Raises RegistryError naming the runs that exist."""
    from factory.registry.home import Home

    runs = Home.find().runs
    for folder in (Path(name), runs / name):
        if (folder / "resolved.yaml").is_file():
            return folder.absolute()
    known = sorted(entry.parent.name for entry in runs.glob("*/resolved.yaml"))
    told = f"Runs there: {', '.join(known[:12])}." if known else "There is none yet: build one with factory build."
    raise RegistryError(f"no run '{name}', neither as a folder nor in {runs}.{near_miss(name, known)} {told}")


def against_first(first: Column, second: Column) -> dict[str, Any]:
    """`diff` (second minus first, mean score), `diff_ci` (95 %, bootstrap over shared questions), `n`; or `why` there is none."""
    from factory.pipeline.compare import paired_difference, read_scores
    from factory.registry.measured import questions

    none = {"diff": None, "diff_ci": None, "n": 0}
    if first.kept is None or second.kept is None:
        return {**none, "why": "one of the runs has no finished evaluation"}
    if first.kept.primary["name"] != second.kept.primary["name"]:
        return {**none, "why": f"measured by {first.kept.primary['name']} and by {second.kept.primary['name']}"}
    files = [kept.folder / "samples.jsonl" for kept in (first.kept, second.kept)]
    try:
        asked, scores = [questions(path) for path in files], [read_scores(path) for path in files]
    except FactoryError as err:
        return {**none, "why": str(err)}
    same = {key for key in asked[0].keys() & asked[1].keys() if asked[0][key] == asked[1][key]}
    before, after = ({key: value for key, value in side.items() if key in same} for side in scores)
    settings = second.run.config.get("eval") or {}
    found = paired_difference(before, after, resamples=settings.get("bootstrap", RESAMPLES), seed=settings.get("seed", 0))
    if found is None:
        return {**none, "why": "no question was put to both"}
    return {"diff": found.value, "diff_ci": [found.low, found.high], "n": found.n, "why": None}


def _row(column: Column, paired: dict[str, dict[str, Any]]) -> tuple[Any, ...]:
    from factory.cli.output import percent

    pair = paired.get(column.name, {})
    difference = "" if pair.get("diff") is None else f"{100 * pair['diff']:+.1f}"
    kept = column.kept
    return (
        column.name, kept.stage if kept else "", percent(kept.primary["value"] if kept else None),
        difference or pair.get("why", ""), interval(pair.get("diff_ci"), signed=True), pair.get("n", ""),
    )  # fmt: skip
