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
    model: Annotated[
        str,
        typer.Argument(help="A model folder, the id or name of a built model, embedded-text or embedded-vl, or an OpenAI-compatible address (http://host:port/v1)."),
    ],
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
    attempts: Annotated[int, typer.Option("--attempts", "-k", min=1, help="Answers per question: avg@k and pass@k. Needs a temperature.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 is greedy. With one above, or an address, only test answers are judged.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.001, max=1.0, help="Sample from the likeliest tokens that sum to this.")] = 1.0,
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="lm-eval:TASKS", help="In place of a domain: tasks of lm-eval-harness, run by its own program.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Compare, paired: with --suite another model (before); else the folder of an earlier measurement."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="With --suite: documents per task.")] = None,
    include: Annotated[Path | None, typer.Option("--include", help="With --suite: folder with task files of your own.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of an address: the model to ask for, when it has several.")] = None,
    api_key_env: Annotated[str | None, typer.Option("--api-key-env", help="Of an address: environment variable with the key.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=256, help="Of an address: requests at a time.")] = 8,
    online: options.Online = False, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Measure a model on a pack's held-out data, or with --suite on another harness's tasks. Settings: the recipe's `eval` section."""
    from factory.cli import evaluate_more as more

    is_answered = more.is_address(model) or attempts > 1 or temperature > 0
    if suite is not None:
        if domain is not None or recipe is not None or deliberate is not None:
            raise ConfigError(
                "--suite runs another harness's tasks; it takes no --domain, --recipe or --deliberate. Use two commands."
            )
        more.harness(
            model, suite, against, limit=limit, include=include, name=name, api_key_env=api_key_env, online=online, as_json=as_json
        )  # fmt: skip
        return
    if limit is not None or include is not None:
        raise ConfigError("--limit and --include go with --suite. For a domain: --set eval.samples=N.")
    if domain is None and recipe is None:
        raise ConfigError("which pack should measure the model? Add --domain NAME (`factory domains list` shows them).")
    if deliberate is not None:
        from factory.stages.eval.deliberate.grammar import read_deliberation

        # Quoted, because YAML would read some of its marks; with absolute paths, because workers may run elsewhere.
        overrides = [*(overrides or ()), f"eval.deliberate={json.dumps(str(read_deliberation(deliberate)))}"]
    if is_answered:
        if deliberate is not None:
            raise ConfigError(
                "--deliberate needs the model itself and greedy answers. Leave out the address, --attempts and --temperature."
            )
        asked = more.Asked(name, api_key_env, attempts, temperature, top_p, concurrency, online, against)
        more.by_answers(model, options.composed_from(domain, recipe, None, data, overrides, None, False, None), asked, as_json)
        return
    if name is not None or api_key_env is not None:
        raise ConfigError("--name and --api-key-env go with an address. Leave them out for a model on this machine.")
    _by_plan(model, (domain, recipe, data, overrides), run=run, against=against, online=online, as_json=as_json)


def _by_plan(
    model: str, asked: tuple[str | None, str | None, list[str] | None, list[str] | None], *, run: str | None, against: str | None,
    online: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure greedily, as a build measures its stages.

    Args:
        asked: domain, recipe, data, overrides.
    """
    from factory.cli import evaluate_more as more
    from factory.report.read import read_run

    domain, recipe, data, overrides = asked
    base = model if model.startswith("embedded-") else str(model_folder(model))
    without = [
        f"stages.{name}=null"
        for name in options.composed_from(domain, recipe, base, data, overrides, None, online, None).config.stages
    ]
    composed = options.composed_from(domain, recipe, base, data, [*(overrides or ()), *without], None, online, None)
    made = plan_of(composed, run)
    run_plan(made, register=False)
    report = report_of(made)
    measured = read_run(made.folder.root).evals[0]
    figures = measured.figures
    more.write_shape(measured, base, composed)
    if against is not None:
        figures["against"] = more.compared_to(against, measured.folder, composed.config.eval)
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
    if against is not None:
        more.say_against(figures["against"], against)
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
