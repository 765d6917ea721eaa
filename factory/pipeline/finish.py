"""After the last step: choose the stage to keep, compare the stages, write result.json, register the model.

The choice looks at the validation split only; what is reported is the test split, which chooses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.pipeline.compare import paired_difference, read_scores
from factory.pipeline.folder import damaged_outputs
from factory.pipeline.plan import BuildPlan, PlannedStep
from factory.pipeline.record import now
from factory.pipeline.tail import MetricsTail
from factory.plugins import manifest_of
from factory.registry.files import read_json, write_atomic, write_json
from factory.registry.models import CHAIN, Registry
from factory.registry.records import LineageStep, ModelRecord

Locks = Mapping[str, Mapping[str, Any]]
"""Step name -> content of its stage.lock."""


def finish_build(plan: BuildPlan, locks: Locks, *, is_registered: bool = True) -> dict[str, Any]:
    """Write metrics.jsonl and result.json of the run and register the kept model. Returns the content of result.json."""
    rows = result_rows(plan)
    chosen = choose(rows)
    for row in rows:
        row["chosen"] = row["stage"] == chosen
    result: dict[str, Any] = {
        "chosen": chosen, "rows": rows,
        "rule": "highest validation value of the stages that are no control; the earlier stage on a tie",
    }  # fmt: skip
    step = next(step for step in plan.steps if step.step.stage == chosen and step.step.role != "eval")
    model = locks[step.name]["outputs"]["model"]
    result["model"] = {"step": step.name, "path": f"stages/{step.name}/{model}"}
    if is_registered:
        result["model"]["id"] = register(plan, locks, step, rows).id
    _gather_metrics(plan)
    write_json(plan.folder.root / "result.json", result)
    return result


def result_rows(plan: BuildPlan) -> list[dict[str, Any]]:
    """One row per measured stage, base first: test value, validation value, paired differences to its start and to the base."""
    by_name = {step.name: step for step in plan.steps}
    measured = {step.step.start: step for step in plan.steps if step.step.role == "eval"}
    settings, rows = plan.config.eval, []
    for made, evaluation in measured.items():
        assert made is not None
        stage = by_name[made]
        figures = read_json(plan.folder.final(evaluation.name) / "eval.json")
        primary = figures["splits"]["test"]["primary"]
        row = {
            "stage": stage.step.stage, "step": stage.name, "kind": stage.step.kind, "control": stage.step.control,
            "metric": primary["name"], "value": primary["value"], "ci": primary["ci"], "n": primary["n"],
            "validation": figures["splits"]["validation"]["primary"]["value"],
            "against": None, "diff": None, "diff_ci": None, "diff_n": None, "diff_base": None, "diff_base_ci": None,
        }  # fmt: skip
        scores = read_scores(plan.folder.final(evaluation.name) / "samples.jsonl")
        start = stage.step.start
        if start in measured:
            row |= {"against": by_name[start].step.stage} | _difference("diff", plan, measured[start], scores, settings.bootstrap)
            base = _difference("diff_base", plan, measured["00-base"], scores, settings.bootstrap)
            row |= {key: base[key] for key in ("diff_base", "diff_base_ci")}
        rows.append(row)
    return rows


def _difference(key: str, plan: BuildPlan, before: PlannedStep, after: Mapping[str, float], resamples: int) -> dict[str, Any]:
    scores = read_scores(plan.folder.final(before.name) / "samples.jsonl")
    found = paired_difference(scores, after, resamples=resamples, seed=plan.config.eval.seed)
    if found is None:
        return {key: None, f"{key}_ci": None, f"{key}_n": 0}
    return {key: found.value, f"{key}_ci": [found.low, found.high], f"{key}_n": found.n}


def choose(rows: Sequence[Mapping[str, Any]]) -> str:
    """The stage to keep: best validation value; controls are never kept, and on a tie the earlier (simpler) stage is.

    Raises:
        RegistryError: nothing could be measured (every verdict failed).
    """
    candidates = [row for row in rows if not row["control"] and row["validation"] is not None]
    if not candidates:
        raise RegistryError(
            "no stage has a validation value: every verdict failed or the validation split is empty. See statuses in eval.json."
        )
    # max() returns the first of equal items, and rows are in the order of the recipe.
    return max(candidates, key=lambda row: row["validation"])["stage"]


def register(plan: BuildPlan, locks: Locks, step: PlannedStep, rows: Sequence[Mapping[str, Any]]) -> ModelRecord:
    """Put the kept model into the registry with its lineage."""
    manifest = manifest_of(plan.config.domain)
    base_hash = locks["00-base"]["outputs"]["model_hash"]
    splits = {row["stage"]: row for row in rows}
    record = ModelRecord(
        name=plan.run, version=0, domain=plan.config.domain, stage=step.step.stage,
        base={"ref": plan.base.ref, "hash": base_hash, "hub_id": plan.base.hub_id, "revision": plan.config.revision,
              "licence": plan.base.licence or "unknown: read the base's own licence"},
        artifacts={}, lineage=tuple(_lineage(planned, locks[planned.name]) for planned in plan.steps), config=plan.composed.plain,
        seed=plan.config.seed, versions=plan.versions,
        data={"pack": plan.pack, "files": plan.data, "sources": list(manifest.data)},
        evals={stage: {"test": _figures(row), "validation": {"name": row["metric"], "value": row["validation"]}}
               for stage, row in splits.items()},
        licence=manifest.license, intended_use=manifest.intended_use, not_for=manifest.not_for, run=plan.run, created=now(), notes=plan.notes,
    )  # fmt: skip
    model_dir = plan.folder.final(step.name) / locks[step.name]["outputs"]["model"]
    _refuse_changed(plan, locks, step, has_chain=(model_dir / CHAIN).is_file())
    in_place = Path(plan.folder.final("00-base") / "model") if plan.base.is_in_place else None
    return Registry(plan.home.registry).register(record, model_dir, base_in_place=in_place)


def _refuse_changed(plan: BuildPlan, locks: Locks, step: PlannedStep, *, has_chain: bool) -> None:
    """Hash what will be stored once more: bits that flipped on the disk since the step ended must not become a model.

    Args:
        has_chain: the model is an adapter, so that the models it started from are stored too.
    """
    by_name, checked = {planned.name: planned for planned in plan.steps}, [step]
    while has_chain and checked[-1].step.start is not None:
        checked.append(by_name[checked[-1].step.start])
    for planned in checked:
        folder = plan.folder.final(planned.name)
        damaged = damaged_outputs(folder, locks[planned.name], is_deep=planned.step.role != "base" or not plan.base.is_in_place)
        if damaged:
            raise RegistryError(
                f"{folder}: {', '.join(damaged[:3])} changed on the disk since the step ended, so the model is not registered. "
                f"Remove {folder} and run the same command again: the step is made anew."
            )


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": row["metric"], "value": row["value"], "n": row["n"], "ci": row["ci"]}


def _lineage(step: PlannedStep, lock: Mapping[str, Any]) -> LineageStep:
    outputs = lock["outputs"]
    return LineageStep(step.name, step.step.kind, step.step.start, step.fingerprint, outputs["model_hash"] or outputs["hash"])


def _gather_metrics(plan: BuildPlan) -> None:
    """The run's metrics.jsonl: the rows of all steps in order, each with the name of its step."""
    lines = []
    for step in plan.steps:
        rows = MetricsTail(plan.folder.final(step.name) / "metrics.jsonl").new_rows()
        lines += [json.dumps({"stage": step.name, **row}) for row in rows]
    write_atomic(plan.folder.root / "metrics.jsonl", "".join(f"{line}\n" for line in lines))


def plan_row(step: PlannedStep) -> dict[str, Any]:
    """A step as plain data, for events."""
    return {"kind": step.step.kind, "stage": step.step.stage, "estimated_s": step.seconds, **asdict(step.plan)}
