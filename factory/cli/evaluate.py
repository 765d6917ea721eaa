"""`factory eval`: measure any model with a pack's held-out data, the way a build measures its stages."""

from __future__ import annotations

import json
from pathlib import Path
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
    run: options.Run = None,
    deliberate: Annotated[
        str | None,
        typer.Option(
            "--deliberate", metavar="METHOD",
            help="Also answer with more effort and compare: majority:8; best_of:8,verifier=NAME (or scorer=DIR); "
            "align3,behaviour=FILE,safety=FILE; critic:2 (critic=DIR); force_answer:TOKENS. More: temperature=, seed=.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Measure a model on a pack's held-out test and validation data. Settings come from the recipe's `eval` section."""
    from factory.report.read import read_run

    if domain is None and recipe is None:
        raise ConfigError("which pack should measure the model? Add --domain NAME (`factory domains list` shows them).")
    if deliberate is not None:
        from factory.stages.eval.deliberate.grammar import read_deliberation

        # Quoted, because YAML would read some of its marks; with absolute paths, because workers may run elsewhere.
        overrides = [*(overrides or ()), f"eval.deliberate={json.dumps(str(read_deliberation(deliberate)))}"]
    base = model if model.startswith("embedded-") else str(model_folder(model))
    without = [
        f"stages.{name}=null"
        for name in options.composed_from(domain, recipe, base, data, overrides, None, False, None).config.stages
    ]
    composed = options.composed_from(domain, recipe, base, data, [*(overrides or ()), *without], None, False, None)
    made = plan_of(composed, run)
    run_plan(made, register=False)
    report = report_of(made)
    measured = read_run(made.folder.root).evals[0]
    figures = measured.figures
    if "deliberated" in figures:
        figures["deliberated"]["compared"] = compared(measured.folder, composed.config.eval)
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
    _say_figures(model, composed.config.domain, figures)
    say(f"run      {made.folder.root}", f"report   {report or 'not written'}")


def compared(folder: Path, settings: Any) -> dict[str, dict[str, Any] | None]:
    """Split -> paired difference (deliberated minus plain) over the same samples, with its 95 % bootstrap interval.

    Args:
        folder: of an eval step with `deliberated.jsonl`.
        settings: the `eval` section: `bootstrap` resamples, drawn with `seed`.
    """
    from factory.contracts import Status
    from factory.pipeline.compare import paired_difference
    from factory.report.read import read_jsonl

    before: dict[str, dict[str, float]] = {}
    after: dict[str, dict[str, float]] = {}
    for row in read_jsonl(folder / "deliberated.jsonl"):
        for scores, verdict in ((before, row["plain"]), (after, row)):
            found = scores.setdefault(row["split"], {})
            if not Status(verdict["status"]).is_masked:
                found[row["id"]] = verdict["score"]
    differences = {
        split: paired_difference(before[split], after[split], resamples=settings.bootstrap, seed=settings.seed) for split in after
    }
    return {
        split: None if found is None else {"diff": found.value, "diff_ci": [found.low, found.high], "n": found.n}
        for split, found in differences.items()
    }


def _say_figures(model: str, domain: str, figures: dict[str, Any]) -> None:
    """All that was measured, for people."""
    say(
        table(
            ("split", "task", "value", "95 % interval", "n"),
            _rows(figures),
            title=f"{model} on {domain}",
            right=("value", "n"),
        )
    )
    if "deliberated" in figures:
        _say_deliberated(figures)
    for probe, values in figures.get("probes", {}).items():
        say(f"probe {probe}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))


def _say_deliberated(figures: dict[str, Any]) -> None:
    """Plain and deliberated accuracy side by side, the paired difference, and the price in tokens."""
    part = figures["deliberated"]
    rows = []
    for split, found in part["splits"].items():
        plain, more, pair, cost = figures["splits"][split]["primary"], found["primary"], part["compared"][split], found["cost"]
        rows.append(
            (split, percent(plain["value"]), interval(plain["ci"]), percent(more["value"]), interval(more["ci"]),
             "" if pair is None else f"{100 * pair['diff']:+.1f}", "" if pair is None else interval(pair["diff_ci"], signed=True),
             f"{cost['plain_tokens']:.1f}", f"{cost['tokens']:.1f}", "–" if cost["ratio"] is None else f"{cost['ratio']:.1f} x",
             0 if pair is None else pair["n"])
        )  # fmt: skip
    columns = (
        "split", "plain", "95 % interval", "deliberated", "95 % interval ", "difference", "95 % interval  ", "tokens plain",
        "deliberated ", "ratio", "n",
    )  # fmt: skip
    say(
        table(
            columns,
            rows,
            title=f"Deliberated: {part['label']}" + ("" if part["label"] == part["method"] else f" ({part['method']})"),
            right=("plain", "deliberated", "difference", "tokens plain", "deliberated ", "ratio", "n"),
        )
    )
    for note in part["notes"]:
        say(f"note     {note}")


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
