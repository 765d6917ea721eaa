"""The model card of an exported model: metadata that huggingface_hub parses, and a text that says what it is, is for, and scored.

Every figure comes from the evals of the run that built the model; a model without a record gets a card that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml

from factory.registry.base_models import find_base
from factory.registry.records import ModelRecord
from factory.report.licences import RollUp, roll_up
from factory.report.read import Run


@dataclass(frozen=True)
class CardFacts:
    """What a card tells."""

    name: str
    domain: str
    title: str
    """Of the pack."""
    stage: str
    base: Mapping[str, Any]
    """`ref`, `hub_id`, `revision`, `licence`, `hash`."""
    pack: Mapping[str, Any]
    """`name`, `version`, `license`."""
    intended_use: str
    not_for: str
    evals: Mapping[str, Mapping[str, Any]]
    """Stage -> {"test": {name, value, n, ci}}, base first."""
    lineage: tuple[str, ...]
    seed: int
    versions: Mapping[str, str]
    rolled: RollUp
    command: str = ""
    num_files: int = 0
    """Files of the user's own data."""
    notes: tuple[str, ...] = field(default=())

    @property
    def is_embedded(self) -> bool:
        """True for a base that was made from a seed: proof of the pipeline, no specialist."""
        return str(self.base.get("ref", "")).startswith("embedded")


def facts_of_record(record: ModelRecord, *, title: str = "") -> CardFacts:
    """The facts of a registered model."""
    pack = record.data.get("pack") or {}
    num_files = len(record.data.get("files") or {})
    rolled = roll_up(record.base, pack, record.data.get("sources") or (), num_files, _data_licence(record.config))
    made = [step for step in record.lineage if step.kind not in ("eval", "check")]
    lineage = tuple(f"{step.name} ({step.kind})" for step in made)
    order = [step.name.split("-", 1)[-1] for step in made]
    evals = {
        stage: record.evals[stage] for stage in sorted(record.evals, key=lambda s: order.index(s) if s in order else len(order))
    }
    return CardFacts(
        record.id, record.domain, title or record.domain, record.stage, record.base, pack, record.intended_use, record.not_for,
        evals, lineage, record.seed, record.versions, rolled, num_files=num_files, notes=record.notes,
    )  # fmt: skip


def facts_of_stage(run: Run, stage: str, manifest: Any) -> CardFacts:
    """The facts of one stage of a run, which need not be the one that was kept."""
    evals = {m.stage: {"test": m.figures["splits"]["test"]["primary"]} for m in run.evals}
    ref = str(run.config.get("base"))
    known = find_base(ref)
    base = {"ref": ref, "hub_id": known.hub_id if known else None, "licence": known.licence if known else None}
    pack = {"name": manifest.name, "version": manifest.version, "license": manifest.license}
    num_files = len(run.config.get("data", {}).get("paths") or ())
    return CardFacts(
        f"{run.folder.name}-{stage}", run.config["domain"], manifest.title, stage, base, pack, manifest.intended_use,
        manifest.not_for, evals, tuple(f"{t.name} ({t.kind})" for t in run.trainings), run.config.get("seed", 0),
        run.record.get("versions", {}), roll_up(base, pack, manifest.data, num_files, _data_licence(run.config)), run.record.get("command", ""), num_files,
    )  # fmt: skip


def _data_licence(config: Mapping[str, Any]) -> str:
    return str((config.get("data") or {}).get("licence") or "")


def metadata(facts: CardFacts, *, modality: str, is_adapter: bool) -> dict[str, Any]:
    """The front matter, in the keys that huggingface_hub knows.

    Args:
        modality: `text`, `vl` or `dna`.
    """
    rolled = facts.rolled
    found: dict[str, Any] = {
        "license": rolled.tag, "library_name": "peft" if is_adapter else "transformers", "pipeline_tag": _task(modality),
        "tags": ["domain-factory", facts.domain, *(["embedded-base"] if facts.is_embedded else [])],
    }  # fmt: skip
    if rolled.name:
        found |= {"license_name": rolled.name, "license_link": "README.md"}
    if facts.base.get("hub_id"):
        found |= {"base_model": facts.base["hub_id"], "base_model_relation": "adapter" if is_adapter else "finetune"}
    results = _results(facts, modality)
    if results:
        from huggingface_hub.repocard_data import eval_results_to_model_index

        found["model-index"] = eval_results_to_model_index(facts.name, results)
    return found


def _task(modality: str) -> str:
    return "image-text-to-text" if modality == "vl" else "text-generation"


def _results(facts: CardFacts, modality: str) -> list[Any]:
    """EvalResults of the stage that is exported, on the test split."""
    from huggingface_hub import EvalResult

    figure = (facts.evals.get(facts.stage) or {}).get("test") or {}
    if figure.get("value") is None:
        return []
    low, high = figure.get("ci") or (None, None)
    known = {"n": figure.get("n"), "ci95_low": low, "ci95_high": high}
    return [
        EvalResult(
            task_type=_task(modality), dataset_type=f"domain-factory/{facts.domain}", dataset_name=f"{facts.title}, held-out test",
            dataset_split="test", dataset_revision=str(facts.pack.get("version") or ""), metric_type=str(figure["name"]),
            metric_name=f"{figure['name']} (mean over held-out samples)", metric_value=figure["value"],
            metric_args={key: value for key, value in known.items() if value is not None},
        )
    ]  # fmt: skip


def card_text(facts: CardFacts, *, modality: str, is_adapter: bool, loader: str) -> str:
    """README.md of the exported folder.

    Args:
        loader: the call that loads it, such as `transformers.AutoModelForCausalLM.from_pretrained`.
    """
    head = yaml.safe_dump(metadata(facts, modality=modality, is_adapter=is_adapter), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n{_body(facts, loader)}"


def bare_card(name: str, *, modality: str, is_adapter: bool, loader: str) -> str:
    """The card of a model of which no record was found: it claims nothing."""
    head = {
        "license": "unknown", "library_name": "peft" if is_adapter else "transformers", "pipeline_tag": _task(modality),
        "tags": ["domain-factory"],
    }  # fmt: skip
    told = "Exported from a folder without a record: base, data, licence and measurements are not known."
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n# {name}\n\n{told}\n\nLoad it with `{loader}`.\n"


def _body(facts: CardFacts, loader: str) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("factory.templates").joinpath("cards/export_card.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(facts=facts, rows=_rows(facts), loader=loader)


def _rows(facts: CardFacts) -> Sequence[tuple[str, str, str, str, str]]:
    """(stage, metric, value, interval, n) of every measured stage on the test split."""
    rows = []
    for stage, splits in facts.evals.items():
        figure = splits.get("test") or {}
        if figure.get("value") is None:
            continue
        pair = figure.get("ci")
        interval = f"[{100 * pair[0]:.1f}, {100 * pair[1]:.1f}]" if pair else ""
        name = f"**{stage}** (this model)" if stage == facts.stage else stage
        rows.append((name, str(figure.get("name")), f"{100 * figure['value']:.1f} %", interval, str(figure.get("n") or "")))
    return rows
