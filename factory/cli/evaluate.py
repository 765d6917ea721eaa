"""`factory eval`: measure any model with a pack's held-out data, the way a build measures its stages."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from factory.cli import options
from factory.cli.build import report_of, run_plan
from factory.cli.export import model_folder
from factory.cli.output import emit_json, interval, percent, say, table
from factory.cli.plan import plan_of
from factory.errors import ConfigError


def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, the id or name of a built model, embedded-text or embedded-vl.")],
    domain: options.Domain = None, recipe: options.Recipe = None, data: options.DataPaths = None, overrides: options.Set = None,
    run: options.Run = None, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Measure a model on a pack's held-out test and validation data. Settings come from the recipe's `eval` section."""
    if domain is None and recipe is None:
        raise ConfigError("which pack should measure the model? Add --domain NAME (`factory domains list` shows them).")
    base = model if model.startswith("embedded-") else str(model_folder(model))
    without = [
        f"stages.{name}=null"
        for name in options.composed_from(domain, recipe, base, data, overrides, None, False, None).config.stages
    ]
    composed = options.composed_from(domain, recipe, base, data, [*(overrides or ()), *without], None, False, None)
    made = plan_of(composed, run)
    run_plan(made, register=False)
    report = report_of(made)
    figures = _figures(made.folder.root)
    if as_json:
        emit_json(
            {
                "model": base,
                "domain": composed.config.domain,
                "run": made.run,
                "report": str(report) if report else None,
                **figures,
            }
        )
        return
    say(
        table(
            ("split", "task", "value", "95 % interval", "n"),
            _rows(figures),
            title=f"{model} on {composed.config.domain}",
            right=("value", "n"),
        )
    )
    for probe, values in figures.get("probes", {}).items():
        say(f"probe {probe}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    say(f"run      {made.folder.root}", f"report   {report or 'not written'}")


def _figures(root: Any) -> dict[str, Any]:
    """Content of the base's eval.json."""
    from factory.report.read import read_run

    return read_run(root).evals[0].figures


def _rows(figures: dict[str, Any]) -> list[tuple[Any, ...]]:
    parts = dict(figures["splits"])
    if "blind" in figures:
        parts["test, images blanked"] = figures["blind"]
    rows: list[tuple[Any, ...]] = []
    for split, part in parts.items():
        primary = part["primary"]
        rows.append((split, f"all ({primary['name']})", percent(primary["value"]), interval(primary["ci"]), primary["n"]))
        rows += [(split, task, percent(found["value"]), "", found["n"]) for task, found in part["tasks"].items()]
    return rows
