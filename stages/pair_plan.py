"""What the stages that learn from pairs plan alike: where the pairs come from, how many steps, how much memory. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from factory.config.schema import AdapterConfig, OptimConfig
from factory.contracts import DomainPack, ModelFacts, StagePlan
from factory.errors import ConfigError
from factory.plugins import load_stage
from factory.stages.batches import num_steps
from factory.stages.deepspeed_config import split_as
from factory.stages.lesson_files import check_source as check_stage
from factory.stages.models.facts import kept_images, memory_bytes
from factory.stages.pairs import check_source, is_file

TEXT_TOKENS = 256
"""Assumed text tokens of a prompt with one response, for the plan's estimate only."""


class PairConfig(Protocol):
    """The settings that such a stage has."""

    pairs_from: str
    pairs: int
    epochs: int
    batch_size: int
    max_length: int
    cache_mb: int
    optim: OptimConfig
    adapter: AdapterConfig


def stage_of(config: PairConfig) -> tuple[str, ...]:
    """The stage whose pairs it learns from, if any: its `reads`."""
    return () if not config.pairs_from or is_file(config.pairs_from) else (config.pairs_from,)


def file_of(config: PairConfig) -> tuple[str, ...]:
    """The file of pairs that it learns from, if any: its content counts in the fingerprint and the overlap check."""
    return (config.pairs_from,) if config.pairs_from and is_file(config.pairs_from) else ()


def check_pairs(where: str, config: PairConfig, facts: ModelFacts, pack: DomainPack) -> None:
    """Refuse settings that cannot run. Raises ConfigError with the key and the remedy."""
    for key in ("pairs", "epochs", "batch_size"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}.{key} is {getattr(config, key)}; give 1 or more.")
    if not 2 <= config.max_length <= facts.context:
        raise ConfigError(
            f"{where}.max_length is {config.max_length}; the model reads 2 to {facts.context} tokens. "
            f"Set {where}.max_length={min(2048, facts.context)}."
        )
    check_source(where, config.pairs_from, pack)


def most_pairs(stage: str, build: Mapping[str, Any]) -> float:
    """Pairs that an earlier stage can write at most, as far as its kind offers `most_pairs(settings)`; else infinity."""
    section = build["stages"][stage]
    offered = getattr(load_stage(section["kind"]), "most_pairs", None)
    return offered(section) if offered else float("inf")


def pair_plan(
    name: str, kind: str, config: PairConfig, facts: ModelFacts, build: Mapping[str, Any], *, num_pairs: int,
    outputs: tuple[str, ...], notes: tuple[str, ...],
) -> StagePlan:  # fmt: skip
    """Steps, tokens and memory of `num_pairs` pairs, of which each is two rows; fewer where an earlier stage cannot make so many.

    Raises:
        ConfigError: `pairs_from` names a stage that writes no pairs.
    """
    # Whether there is such a stage was checked with the order of steps.
    for source in set(stage_of(config)) & set(build.get("stages", {})):
        check_stage(f"stages.{name}.pairs_from", source, "pairs", build)
        num_pairs = min(num_pairs, most_pairs(source, build))
        notes = (*notes, f"at most {num_pairs} pairs from {source}; how many there are is known when it runs")
    per_row = min(config.max_length, TEXT_TOKENS + facts.tokens_per_image)
    launch = build["launch"]
    share = 2 * -(-config.batch_size // max(1, launch["processes"]))
    micro = config.optim.micro_batch_size
    memory, formula = memory_bytes(
        facts, precision=build["precision"], rows=min(max(2, micro), share) if micro else share, tokens_per_row=per_row,
        adapter=config.adapter, gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=split_as(launch),
        processes=launch["processes"],
    )  # fmt: skip
    kept, told = kept_images(facts, items=num_pairs, cache_mb=config.cache_mb)
    return StagePlan(
        name=name, kind=kind, num_samples=num_pairs * config.epochs,
        num_steps=num_steps(num_pairs, config.epochs, config.batch_size), num_tokens=2 * num_pairs * config.epochs * per_row,
        peak_memory_bytes=memory + kept, memory_formula=formula + told, outputs=outputs, notes=notes,
    )  # fmt: skip
