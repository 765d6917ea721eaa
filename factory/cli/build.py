"""`factory build`: compose, plan, run, measure, report. The one command; the rest of the main path starts here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options, track
from factory.cli.output import console, emit_json, interval, percent, say, table
from factory.cli.plan import plan_json, plan_of, show_plan

if TYPE_CHECKING:
    from factory.pipeline.plan import BuildPlan


def build(
    domain: options.Domain = None, recipe: options.Recipe = None, base: options.Base = None, data: options.DataPaths = None,
    overrides: options.Set = None, seed: options.Seed = None, run: options.Run = None, online: options.Online = False,
    config: options.Config = None, mix: options.Mix = None, to: track.To = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop, like `factory plan`.")] = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Build a specialist: every stage of the recipe, each measured on held-out data. The same command resumes a stopped build."""
    from factory.tracking.trackers import read_names

    trackers = read_names(to or ())
    composed = options.composed_from(domain, recipe, base, data, overrides, seed, online, config, mix)
    made = plan_of(composed, run)
    if dry_run:
        if as_json:
            emit_json(plan_json(made))
        else:
            show_plan(made)
        return
    if not as_json:
        show_plan(made)
    result = run_plan(made, trackers=trackers)
    report = report_of(made)
    outcome = outcome_json(made, result, report)
    if as_json:
        emit_json(outcome)
    else:
        show_outcome(outcome)


def run_plan(made: BuildPlan, *, register: bool = True, trackers: Sequence[str] = ()) -> dict[str, Any]:
    """Run a plan with live progress, told to `trackers` too, and return the content of result.json."""
    from factory.cli.live import LiveView
    from factory.pipeline.run import run_build
    from factory.tracking.trackers import tracked

    with LiveView() as view, tracked(trackers, track.about_of(made), view) as on_event:
        return dict(run_build(made, on_event=on_event, register=register))


def report_of(made: BuildPlan) -> Path | None:
    """Write the report. A failure here is told and loses nothing: the models are built and registered."""
    from factory.report import build_report

    try:
        return build_report(made.folder.root)
    except Exception as err:
        console(stderr=True).print(
            f"the report could not be written: {type(err).__name__}: {err}. "
            "The models are complete; run the command again to retry.",
            style="red", markup=False, soft_wrap=True,
        )  # fmt: skip
        return None


def outcome_json(made: BuildPlan, result: dict[str, Any], report: Path | None) -> dict[str, Any]:
    """What a build ended with: the measured stages, the chosen one, and where everything lies."""
    from factory.report.build import by_domain, comparison
    from factory.report.read import read_run

    root = made.folder.root
    run = read_run(root)
    return {
        "run": made.run, "folder": str(root), "result": result, "stages": comparison(run), "domains": by_domain(run),
        "report": str(report) if report else None, "metrics": str(root / "metrics.jsonl"),
    }  # fmt: skip


def show_outcome(outcome: dict[str, Any]) -> None:
    """Print the table of stages and the next commands to type."""
    result, chosen, model = outcome["result"], outcome["result"]["chosen"], outcome["result"]["model"]
    columns = ("stage", "test", "95 % interval", "validation", "against", "difference", "95 % interval ", "n", "")
    say(
        table(
            columns,
            [_row(row, chosen) for row in outcome["stages"]],
            title="Held-out results (%)",
            right=("test", "validation", "difference", "n"),
        )
    )
    if outcome["domains"]:
        cells = [
            (row["stage"], name, percent(row["value"]), interval(row["ci"]), row["n"])
            for name, rows in outcome["domains"].items() for row in rows
        ]  # fmt: skip
        say(table(("stage", "domain", "test", "95 % interval", "n"), cells, title="By domain (%)", right=("test", "n")))
    say(f"chosen   {chosen} ({result['rule']}; test is only reported)")
    folder = Path(outcome["folder"])
    say(
        f"run      {folder}",
        f"model    {folder / model['path']}",
        f"report   {outcome['report'] or 'not written'}",
        f"metrics  {outcome['metrics']}",
    )
    if "id" in model:
        say(f"next     factory models show {model['id']}", f"         factory export {model['id']} OUT_FOLDER")


def _row(row: dict[str, Any], chosen: str | None) -> tuple[Any, ...]:
    paired = row["paired"]
    difference = paired.get("diff")
    return (
        row["stage"], percent(row["value"]), interval(row["ci"]), percent(row["validation"]), paired.get("against") or "",
        "" if difference is None else f"{100 * difference:+.1f}", interval(paired.get("diff_ci"), signed=True), row["n"],
        "chosen" if row["stage"] == chosen else "",
    )  # fmt: skip
