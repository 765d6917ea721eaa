"""The `cpt` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.stages.batches import num_steps
from factory.stages.cpt.config import CptConfig
from factory.stages.cpt.general import count_general
from factory.stages.deepspeed_config import split_as
from factory.stages.models.facts import kept_images, memory_bytes

TEXT_TOKENS = 64
"""Assumed text tokens of one document with an image, for the plan's estimate only."""


class CptStage:
    """Next-token prediction on the pack's corpus and, if asked, on general text."""

    kind: ClassVar[str] = "cpt"
    config_type: ClassVar[type] = CptConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def plan(self, name: str, config: CptConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        """Count documents, steps and tokens; estimate the memory.

        Raises:
            ConfigError: no corpus in the pack, a share outside [0, 1), rows longer than the model's context, counts below 1.
        """
        check(name, config, facts, pack)
        per_document = TEXT_TOKENS + facts.tokens_per_image if facts.modality == "vl" else (config.pack_length or facts.context)
        launch = build["launch"]
        share = -(-config.batch_size // max(1, launch["processes"]))
        rows = min(config.optim.micro_batch_size or share, share)
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=rows, tokens_per_row=per_document, adapter=config.adapter,
            gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=split_as(launch),
            processes=launch["processes"],
        )  # fmt: skip
        kept, told = kept_images(facts, items=config.documents, cache_mb=config.cache_mb if config.epochs > 1 else 0)
        steps = num_steps(config.documents, config.epochs, config.batch_size)
        return StagePlan(
            name=name, kind=self.kind, num_samples=config.documents * config.epochs, num_steps=steps,
            num_tokens=config.documents * config.epochs * per_document, peak_memory_bytes=memory + kept, memory_formula=formula + told,
            outputs=("model", "metrics.jsonl"), notes=_notes(name, config),
        )  # fmt: skip

    def run(self, config: CptConfig, ctx: RunContext) -> Outputs:
        """Train `ctx.model_dir` on the documents; see `train.py`."""
        from factory.stages.cpt.train import train

        return train(config, ctx)


def check(name: str, config: CptConfig, facts: ModelFacts, pack: DomainPack) -> None:
    """Refuse settings that cannot run. Raises ConfigError with the key and the remedy."""
    where = f"stages.{name}"
    if "corpus" not in pack.manifest.provides:
        raise ConfigError(
            f"{where}: pack '{pack.manifest.name}' provides no corpus, so there is nothing to read. Leave the stage out."
        )
    for key in ("documents", "epochs", "batch_size"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}.{key} is {getattr(config, key)}; give 1 or more.")
    if not 0.0 <= config.general_share < 1.0:
        raise ConfigError(f"{where}.general_share is {config.general_share}; give a share of all documents, in [0, 1).")
    if config.pack_length < 0 or config.pack_length == 1 or config.pack_length > facts.context:
        raise ConfigError(
            f"{where}.pack_length is {config.pack_length}; the model reads 2 to {facts.context} tokens (0: no packing). "
            f"Set {where}.pack_length={min(1024, facts.context)}."
        )


def _notes(name: str, config: CptConfig) -> tuple[str, ...]:
    num_general = count_general(config)
    if num_general:
        return (f"{num_general} of {config.documents} documents are general text from {', '.join(config.general_paths)}",)
    if config.general_share > 0:
        return (f"general_share is 0 instead of {config.general_share}: stages.{name}.general_paths names no files",)
    if config.general_paths:
        return (f"stages.{name}.general_paths has no effect while general_share is 0",)
    return ()
