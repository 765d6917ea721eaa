"""Write a run's report, model card and TensorBoard events from what the run left on disk."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from factory.contracts import Status
from factory.errors import ConfigError
from factory.plugins import manifest_of, member_names
from factory.registry.files import write_atomic
from factory.report.browser import Answers, browser_data, script_json
from factory.report.cost import cost_of
from factory.report.mixture import mixture_parts
from factory.report.page import page_parts, template
from factory.report.plots import stage_chart, trade_off_chart, training_charts
from factory.report.read import Measured, Run, data_uri, read_jsonl, read_run
from factory.report.tasks import task_parts
from factory.report.tensorboard import write_events
from factory.report.trade_offs import length_chart, reward_charts
from factory.report.verification import health_charts, verdict_rows, verification_charts, watch_notes
from factory.rewards.mixture import Mixture
from factory.stages.eval.intervals import mean_interval
from factory.stages.eval.summary import WITHHELD

log = logging.getLogger(__name__)

SHOWN = 6
"""Right and wrong completions shown of the chosen stage, each."""


def build_report(run_dir: Path) -> Path:
    """Write `report.html`, `MODEL_CARD.md` and `tensorboard/` into `run_dir` and return the report's path.

    Raises:
        RegistryError: `run_dir` is not a run folder.
    """
    run = read_run(Path(run_dir))
    write_events(run.trainings, run.folder / "tensorboard")
    facts = _facts(run)
    write_atomic(run.folder / "MODEL_CARD.md", template("cards/model_card.md.jinja").render(facts))
    page = template("report/report.html.jinja").render(facts | _drawn(run, facts) | page_parts())
    path = run.folder / "report.html"
    write_atomic(path, page)
    return path


def _drawn(run: Run, facts: Mapping[str, Any]) -> dict[str, Any]:
    main_of = main_verifiers(run, facts["manifest"].tasks)
    answers = browser_data([Answers(measured.stage, measured) for measured in run.evals])
    trade_offs = [trade_off_chart(run.evals, facts["manifest"].trade_off), length_chart(run.evals)]
    trade_offs += [chart for trained in run.trainings for chart in reward_charts(trained)]
    return {
        "trade_offs": [chart for chart in trade_offs if chart], "stage_chart": stage_chart(run.evals),
        "charts": {trained.name: training_charts(trained) for trained in run.trainings},
        "health": [chart for trained in run.trainings for chart in verification_charts(trained) + health_charts(trained, main_of)],
        "mixture_parts": mixture_parts(run.trainings), "cost": cost_of(run), "examples": _examples(run), "rollouts": _rollouts(run),
        "task_parts": task_parts(run.trainings), "verdict_rows": verdict_rows(run.trainings), "watch_notes": watch_notes(run.trainings),
        "browser": answers, "browser_json": script_json(answers),
    }  # fmt: skip


def main_verifiers(run: Run, tasks: Mapping[str, Mapping[str, Any]]) -> Callable[[str], str | None]:
    """task -> the verifier that says whether an answer is right, under the mixture of this run; None for a task it does not name."""
    try:
        mixture = Mixture(tasks, run.config.get("mixture") or {}, judges=dict.fromkeys(run.config.get("judges") or {}, 1.0))
    except ConfigError as err:  # The pack changed since the run: the report is of the run, and goes without these charts.
        log.warning("%s: verdicts are not told apart by right and wrong: %s", run.folder, err)
        return lambda task: None

    def main_of(task: str) -> str | None:
        try:
            return mixture.main_verifier(task)
        except ConfigError:
            return None

    return main_of


def _facts(run: Run) -> dict[str, Any]:
    manifest = manifest_of(run.config["domain"])
    return {
        "run": run, "name": run.folder.name, "manifest": manifest, "record": run.record, "result": run.result,
        "rows": comparison(run), "tasks": _tasks(run.evals), "domains": by_domain(run), "probes": _probes(run.evals), "chosen": run.result.get("chosen"),
        "config_yaml": yaml.safe_dump(run.config, sort_keys=False), "is_embedded": str(run.config.get("base", "")).startswith("embedded"),
        "steps": run.plan.get("steps", []), "verdicts": _verdicts(run.evals),
        "licence_gaps": [source.get("id", "?") for source in manifest.data if not source.get("license")],
    }  # fmt: skip


def comparison(run: Run) -> list[dict[str, Any]]:
    """One row per eval: value, interval, blind control, majority guess, paired difference to its start (from `result.json`)."""
    paired = {row["stage"]: row for row in run.result.get("rows", [])}
    rows = []
    for measured in run.evals:
        test = measured.figures["splits"]["test"]
        rows.append(
            {
                "stage": measured.stage, "value": test["primary"]["value"], "ci": test["primary"]["ci"], "n": test["primary"]["n"],
                "majority": test.get("majority"), "blind": measured.figures.get("blind", {}).get("primary", {}).get("value"),
                "validation": measured.figures["splits"]["validation"]["primary"]["value"], "length": test["length"],
                "statuses": test["statuses"], "paired": paired.get(measured.stage, {}),
            }
        )  # fmt: skip
    return rows


def _tasks(evals: Sequence[Measured]) -> dict[str, list[Mapping[str, Any] | None]]:
    """task -> its figures in each eval, in the order of `evals`."""
    tables = [measured.figures["splits"]["test"]["tasks"] for measured in evals]
    return {task: [table.get(task) for table in tables] for task in sorted({name for table in tables for name in table})}


def by_domain(run: Run) -> dict[str, list[dict[str, Any]]]:
    """pack -> its figures on the test samples in each eval (stage, value, ci, n); empty for a build on one pack.

    Of a domain added to a finished model, the earlier pack's row says what was forgotten.
    """
    names = member_names(run.config["domain"])
    if len(names) < 2:
        return {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for measured in run.evals:
        rows = [row for row in measured.rows() if not Status(row["status"]).is_masked]
        for name in names:
            scores = [row["score"] for row in rows if row["task"].startswith(f"{name}/")]
            low, high = mean_interval(scores)
            is_known = math.isfinite(low) and math.isfinite(high)
            found[name].append(
                {"stage": measured.stage, "value": math.fsum(scores) / len(scores) if scores else None, "n": len(scores),
                 "ci": [low, high] if is_known else None}
            )  # fmt: skip
    return found


def _probes(evals: Sequence[Measured]) -> dict[str, list[float | None]]:
    """`probe: figure` -> its value in each eval."""
    tables = [
        {
            f"{probe}: {figure}": value
            for probe, figures in measured.figures.get("probes", {}).items()
            for figure, value in figures.items()
        }
        for measured in evals
    ]
    return {name: [table.get(name) for table in tables] for name in sorted({key for table in tables for key in table})}


def _verdicts(evals: Sequence[Measured]) -> dict[str, Mapping[str, Any]]:
    return {measured.stage: measured.figures.get("verdicts", {}) for measured in evals}


def _examples(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Right and wrong completions of the chosen stage (the last one when none is chosen), those with an image first.

    Answers to prompts that are withheld are left out with them.
    """
    if not run.evals:
        return {}
    measured = next((m for m in run.evals if m.stage == run.result.get("chosen")), run.evals[-1])
    rows = [row for row in measured.rows() if not row["prompt"].startswith(WITHHELD)]
    for row in rows:
        row["uri"] = data_uri(measured.folder / "images" / row["image"]) if row.get("image") else None
    rows.sort(key=lambda row: row["uri"] is None)
    return {
        "right": [row for row in rows if row["score"] >= 1.0][:SHOWN],
        "wrong": [row for row in rows if row["score"] < 1.0][:SHOWN],
    }


def _rollouts(run: Run) -> list[dict[str, Any]]:
    """The first recorded rollouts of the last RL step, with their reward parts."""
    for trained in reversed(run.trainings):
        rows = read_jsonl(trained.folder / "rollouts.jsonl")
        if rows:
            last = rows[-1].get("step")
            return [row for row in rows if row.get("step") == last][:SHOWN]
    return []
