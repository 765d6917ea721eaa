"""`factory models why`: where a model came from, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from factory.registry.lineage import ancestors
from factory.registry.records import LineageStep, ModelRecord
from factory.registry.relatives import Relatives, data_files

RULE = "the highest validation value of the stages that are no control; the earlier stage on a tie"
MATTERS = (
    "preset", "pieces", "reward", "documents", "lessons", "samples", "pairs", "tasks", "lessons_from", "prompts_from",
    "general_paths", "general_share", "mix_pack", "reads", "epochs", "num_steps", "batch_size", "prompts_per_step", "group_size",
    "minibatches", "temperature", "top_p", "max_new_tokens", "max_length", "pack_length", "beta", "method", "optim.lr",
    "optim.schedule", "optim.warmup_steps", "optim.weight_decay", "optim.vision_lr_scale", "adapter.kind", "adapter.rank",
    "adapter.alpha",
)  # fmt: skip
"""Settings of a stage that decide what it makes, in the order in which they are told."""
FILES_TOLD = 12
"""Data files that the text names; --json has all."""


def explain(record: ModelRecord, kin: Relatives) -> dict[str, Any]:
    """Everything the record tells of a model's origin, as plain data.

    Raises:
        RegistryError: the lineage has a gap or runs in a circle.
    """
    kept = next((step.name for step in record.lineage if stage_of(step) == record.stage and step.kind != "eval"), None)
    chain = ancestors(record.lineage, kept) if kept is not None else []
    made = [step for step in record.lineage if step.kind != "eval"]
    return {
        "model": record.id, "run": record.run, "created": record.created, "domain": record.domain, "seed": record.seed,
        "recipe": record.config.get("recipe"), "stage": record.stage, "base": dict(record.base),
        "steps": [_step(record, step) for step in chain],
        "not_kept": [_step(record, step) for step in made if step not in chain],
        "data": _data(record), "chosen": _chosen(record, made), "versions": dict(record.versions), "licence": record.licence,
        "artifacts": dict(record.artifacts), "notes": list(record.notes), "relatives": asdict(kin),
    }  # fmt: skip


def stage_of(step: LineageStep) -> str:
    """`02-cpt` -> `cpt`."""
    return step.name.split("-", 1)[-1]


def _step(record: ModelRecord, step: LineageStep) -> dict[str, Any]:
    settings = _stage_config(record, stage_of(step))
    return {
        "step": step.name, "stage": stage_of(step), "kind": step.kind, "start": step.start, "fingerprint": step.fingerprint,
        "output_hash": step.output_hash, "settings": settings_that_matter(settings), "control": bool(settings.get("control")),
        "evals": record.evals.get(stage_of(step)) or {},
    }  # fmt: skip


def _stage_config(record: ModelRecord, stage: str) -> Mapping[str, Any]:
    found = _stages(record).get(stage)
    return found if isinstance(found, dict) else {}


def _stages(record: ModelRecord) -> Mapping[str, Any]:
    found = record.config.get("stages")
    return found if isinstance(found, dict) else {}


def settings_that_matter(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of MATTERS that are set; of a stage kind that has none of them, every plain setting it has."""
    found = {key: value for key in MATTERS if (value := _at(settings, key)) not in (None, "", [], {})}
    if found.get("adapter.kind") == "none":
        found = {key: value for key, value in found.items() if not key.startswith("adapter.")}
    plain = {
        key: value for key, value in settings.items() if isinstance(value, str | int | float) and key not in ("kind", "control")
    }
    return found or plain


def _at(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings


def _data(record: ModelRecord) -> dict[str, Any]:
    sources, settings = record.data.get("sources"), record.config.get("data")
    measured = record.primary
    return {
        "pack": record.data.get("pack") or {}, "files": data_files(record.data),
        "sources": [row for row in sources if isinstance(row, dict)] if isinstance(sources, list) else [],
        "settings": {key: value for key, value in (settings if isinstance(settings, dict) else {}).items() if value not in (None, [])},
        "rows": {stage: rows for stage in _stages(record) if (rows := _rows(_stage_config(record, stage)))},
        "measured": measured.get("n"),
    }  # fmt: skip


def _rows(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in ("documents", "lessons", "samples", "pairs") if settings.get(key)}


def _chosen(record: ModelRecord, made: Sequence[LineageStep]) -> dict[str, Any]:
    """Each candidate's validation value in the order of the recipe, and whether the rule gives the stage that was kept."""
    values = {}
    for step in made:
        value = ((record.evals.get(stage_of(step)) or {}).get("validation") or {}).get("value")
        if value is not None and not _stage_config(record, stage_of(step)).get("control"):
            values[stage_of(step)] = value
    best = max(values, key=lambda stage: values[stage]) if values else None
    return {"rule": RULE, "validation": values, "follows_rule": best == record.stage if values else None}


def why_text(found: Mapping[str, Any]) -> str:
    """The same as sentences, a paragraph for each question."""
    recipe = f" by recipe '{found['recipe']}'" if isinstance(found["recipe"], str) else ""
    lines = [
        f"{found['model']} was built on {found['created']} for {found['domain']}{recipe}, seed {found['seed']}, in run {found['run']}.",
        f"Its licence is {found['licence']}.",
        "",
        *_base_lines(found["base"], found["relatives"]["parents"]),
        "",
        "Steps, from the base to what was kept:",
    ]
    for step in found["steps"]:
        lines += _step_lines(step, is_kept=step["stage"] == found["stage"])
    if found["not_kept"]:
        lines.append("Also trained in that run, and not part of this model:")
        for step in found["not_kept"]:
            lines += _step_lines(step, is_kept=False)
    lines += ["", *_chosen_lines(found), "", *_data_lines(found["data"]), ""]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found["versions"].items()))
    lines += [f"Libraries: {versions or 'not recorded'}.", *(f"Note: {note}" for note in found["notes"]), ""]
    return "\n".join([*lines, *_kin_lines(found["relatives"])])


def _base_lines(base: Mapping[str, Any], parents: Mapping[str, str]) -> list[str]:
    hub = (
        f", on the hub {base['hub_id']}" + (f" at revision {base['revision']}" if base.get("revision") else "")
        if base.get("hub_id")
        else ""
    )
    lines = [
        f"It starts from {base.get('ref') or 'an unnamed base'}{hub}, licence {base.get('licence') or 'unknown'}, "
        f"sha256 {_short(base.get('hash'))}."
    ]
    if base.get("path"):
        lines.append(f"That base is used in place, at {base['path']}, and is not stored in the registry.")
    lines += [f"That base is itself a model of this registry: {parent}." for parent in parents]
    return lines


def _step_lines(step: Mapping[str, Any], *, is_kept: bool) -> list[str]:
    start = f" from {step['start']}" if step["start"] else ""
    marks = " (a control: measured, never kept)" if step["control"] else " <- kept" if is_kept else ""
    lines = [f"  {step['step']}: {step['kind']}{start}, fingerprint {_short(step['fingerprint'])}{marks}"]
    if step["settings"]:
        lines.append("    " + ", ".join(f"{key} {_value(value)}" for key, value in step["settings"].items()))
    for split in ("test", "validation"):
        figures = step["evals"].get(split)
        if figures and figures.get("value") is not None:
            lines.append(f"    {split}: {_figure(figures)}")
    return lines


def _figure(figures: Mapping[str, Any]) -> str:
    pair, n = figures.get("ci"), figures.get("n")
    interval = f", 95 % interval {pair[0]:.3f} to {pair[1]:.3f}" if pair and None not in pair else ""
    return f"{figures.get('name') or 'value'} {figures['value']:.3f}{interval}{f', n={n}' if n is not None else ''}"


def _chosen_lines(found: Mapping[str, Any]) -> list[str]:
    chosen = found["chosen"]
    values = ", ".join(f"{stage} {value:.3f}" for stage, value in chosen["validation"].items())
    if not values:
        return [f"The record holds no validation values, so it does not tell why '{found['stage']}' was kept."]
    if chosen["follows_rule"]:
        return [f"'{found['stage']}' was kept by the rule: {chosen['rule']}. Validation: {values}."]
    return [
        f"'{found['stage']}' was kept against the rule ({chosen['rule']}); the record does not tell why. Validation: {values}."
    ]


def _data_lines(data: Mapping[str, Any]) -> list[str]:
    pack, files = data["pack"], data["files"]
    lines = [
        f"Data: pack {pack.get('name') or 'unknown'} {pack.get('version') or ''}, licence {pack.get('license') or 'not recorded'}, "
        f"sha256 {_short(pack.get('hash'))}; {len(files)} file{'' if len(files) == 1 else 's'} of the user."
    ]
    lines += [f"  {path}  sha256 {_short(digest)}" for path, digest in sorted(files.items())[:FILES_TOLD]]
    if len(files) > FILES_TOLD:
        lines.append(f"  … and {len(files) - FILES_TOLD} more (--json names all)")
    for stage, rows in data["rows"].items():
        lines.append(f"  {stage} took at most " + ", ".join(f"{count} {what}" for what, count in rows.items()))
    if data["measured"] is not None:
        lines.append(f"  the test value rests on {data['measured']} held-out samples")
    used = [row for row in data["sources"] if row.get("bundled") or files]
    lines += [f"  source {row.get('id')}: {row.get('license')}{' (bundled)' if row.get('bundled') else ''}" for row in used]
    return lines


def _kin_lines(kin: Mapping[str, Mapping[str, str]]) -> list[str]:
    titles = {
        "descendants": "Built from it", "same_base": "Built from the same base", "same_steps": "Share trained steps with it",
        "same_data": "Built with the same data",
    }  # fmt: skip
    lines = []
    for key, title in titles.items():
        lines.append(
            f"{title}: " + ("; ".join(f"{name} ({how})" for name, how in sorted(kin[key].items())) or "no model here") + "."
        )
    return lines


def _short(digest: Any) -> str:
    return str(digest)[:12] if digest else "not recorded"


def _value(value: Any) -> str:
    return ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
