"""The `reward_model` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError, near_miss
from factory.stages.batches import num_steps
from factory.stages.models.facts import memory_bytes
from factory.stages.pairs import check_source, is_file
from factory.stages.reward_model.config import RewardModelConfig
from factory.stages.reward_model.losses import LOSSES

TEXT_TOKENS = 256
"""Assumed text tokens of a prompt with one response, for the plan's estimate only."""


class RewardModelStage:
    """A scorer learned from pairs of responses."""

    kind: ClassVar[str] = "reward_model"
    config_type: ClassVar[type] = RewardModelConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"scorer"})

    def reads(self, config: RewardModelConfig) -> tuple[str, ...]:
        """The stage whose pairs it learns from, if any."""
        return () if not config.pairs_from or is_file(config.pairs_from) else (config.pairs_from,)

    def training_files(self, config: RewardModelConfig) -> tuple[str, ...]:
        """The file of pairs that it learns from, if any; its content counts in the fingerprint and the overlap check."""
        return (config.pairs_from,) if config.pairs_from and is_file(config.pairs_from) else ()

    def plan(

        self, name: str, config: RewardModelConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        """Count pairs, steps and tokens; estimate the memory.

        Raises:
            ConfigError: no source of pairs, an unknown objective, `max_length` beyond the model's context, counts out of range.
        """
        check(name, config, facts, pack)
        per_row = min(config.max_length, TEXT_TOKENS + facts.tokens_per_image)
        num_pairs = max(1, round(config.pairs * (1 - config.holdout)))
        launch = build["launch"]
        share = 2 * -(-config.batch_size // max(1, launch["processes"]))
        micro = config.optim.micro_batch_size
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=min(max(2, micro), share) if micro else share, tokens_per_row=per_row,
            adapter=config.adapter, gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=launch["zero_stage"],
            processes=launch["processes"],
        )  # fmt: skip
        loss = LOSSES[config.objective]
        return StagePlan(
            name=name, kind=self.kind, num_samples=num_pairs * config.epochs,
            num_steps=num_steps(num_pairs, config.epochs, config.batch_size),
            num_tokens=2 * num_pairs * config.epochs * per_row, peak_memory_bytes=memory, memory_formula=formula,
            outputs=("scorer", "held_out.json", "metrics.jsonl"), notes=(f"objective {loss.name}: {loss.formula}",),
        )  # fmt: skip

    def run(self, config: RewardModelConfig, ctx: RunContext) -> Outputs:
        """Train a scorer on `ctx.model_dir`; see `train.py`."""
        from factory.stages.reward_model.train import train

        return train(config, ctx)


def check(name: str, config: RewardModelConfig, facts: ModelFacts, pack: DomainPack) -> None:
    """Refuse settings that cannot run. Raises ConfigError with the key and the remedy."""
    where = f"stages.{name}"
    if config.objective not in LOSSES:
        hint = near_miss(config.objective, LOSSES)
        raise ConfigError(f"{where}.objective is '{config.objective}'.{hint} Choose one of: {', '.join(LOSSES)}.")
    for key in ("pairs", "epochs", "batch_size"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}.{key} is {getattr(config, key)}; give 1 or more.")
    if not 0.0 <= config.holdout < 1.0:
        raise ConfigError(
            f"{where}.holdout is {config.holdout}; it is a share of the samples, so give 0 or more and less than 1."
        )
    if not 2 <= config.max_length <= facts.context:
        raise ConfigError(
            f"{where}.max_length is {config.max_length}; the model reads 2 to {facts.context} tokens. "
            f"Set {where}.max_length={min(2048, facts.context)}."
        )
    check_source(where, config.pairs_from, pack)
