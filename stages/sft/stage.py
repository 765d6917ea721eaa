"""The `sft` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.stages.batches import num_steps
from factory.stages.deepspeed_config import split_as
from factory.stages.lesson_files import check_source, path_named, stage_named
from factory.stages.models.facts import kept_images, memory_bytes
from factory.stages.only import check_only
from factory.stages.sft.config import SftConfig

TEXT_TOKENS = 256
"""Assumed text tokens of one lesson (prompt, reasoning, answer), for the plan's estimate only."""


class SftStage:
    """Imitation of the pack's worked responses."""

    kind: ClassVar[str] = "sft"
    config_type: ClassVar[type] = SftConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def reads(self, config: SftConfig) -> tuple[str, ...]:
        """The stage whose lessons it learns from, if any."""
        stage = stage_named(config.lessons_from)
        return (stage,) if stage is not None else ()

    def training_files(self, config: SftConfig) -> tuple[str, ...]:
        """The file of lessons that it learns from, if any; checked for overlap with what is held out."""
        path = path_named(config.lessons_from)
        return (path,) if path is not None else ()

    def plan(self, name: str, config: SftConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        """Count lessons, steps and tokens; estimate the memory.

        Raises:
            ConfigError: no lessons in the pack or in `lessons_from`, `max_length` beyond the model's context, counts below 1.
        """
        check(name, config, facts, pack)
        check_source(f"stages.{name}.lessons_from", config.lessons_from, "lessons", build)
        per_lesson = min(config.max_length, TEXT_TOKENS + facts.tokens_per_image)
        launch = build["launch"]
        share = -(-config.batch_size // max(1, launch["processes"]))
        rows = min(config.optim.micro_batch_size or share, share)
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=rows, tokens_per_row=per_lesson, adapter=config.adapter,
            gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=split_as(launch),
            processes=launch["processes"],
        )  # fmt: skip
        kept, told = kept_images(facts, items=config.lessons, cache_mb=config.cache_mb if config.epochs > 1 else 0)
        return StagePlan(
            name=name, kind=self.kind, num_samples=config.lessons * config.epochs,
            num_steps=num_steps(config.lessons, config.epochs, config.batch_size),
            num_tokens=config.lessons * config.epochs * per_lesson, peak_memory_bytes=memory + kept, memory_formula=formula + told,
            outputs=("model", "metrics.jsonl"), notes=notes(config),
        )  # fmt: skip

    def run(self, config: SftConfig, ctx: RunContext) -> Outputs:
        """Train `ctx.model_dir` on the lessons; see `train.py`."""
        from factory.stages.sft.train import train

        return train(config, ctx)


def check(name: str, config: SftConfig, facts: ModelFacts, pack: DomainPack) -> None:
    """Refuse settings that cannot run. Raises ConfigError with the key and the remedy."""
    where = f"stages.{name}"
    if "lessons" not in pack.manifest.provides and (not config.lessons_from or config.mix_pack):
        raise ConfigError(
            f"{where}: pack '{pack.manifest.name}' provides no lessons, so there is nothing to imitate. Leave the stage out."
        )
    check_only(where, config.tasks, config.media, pack.manifest.tasks, facts.modality)
    for key in ("lessons", "epochs", "batch_size"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}.{key} is {getattr(config, key)}; give 1 or more.")
    if not 0 <= config.mix_pack < 1:
        raise ConfigError(f"{where}.mix_pack is {config.mix_pack}; it is a share from 0 to below 1. Set it to 0 for none.")
    if config.mix_pack and not config.lessons_from:
        raise ConfigError(
            f"{where}.mix_pack has no effect: all lessons are the pack's while {where}.lessons_from is empty. Name a stage there."
        )
    if not 2 <= config.max_length <= facts.context:
        raise ConfigError(
            f"{where}.max_length is {config.max_length}; the model reads 2 to {facts.context} tokens. "
            f"Set {where}.max_length={min(2048, facts.context)}."
        )


def notes(config: SftConfig) -> tuple[str, ...]:
    """For the plan: where the lessons come from, when not from the pack alone."""
    if not config.lessons_from:
        return ()
    mixed = f", {config.mix_pack:.0%} of them the pack's own" if config.mix_pack else ""
    return (f"at most {config.lessons} lessons from {config.lessons_from}{mixed}; how many there are is known when it runs",)
