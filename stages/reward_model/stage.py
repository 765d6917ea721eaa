"""The `reward_model` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError, near_miss
from factory.rewards.formats import SHAPES
from factory.stages.pair_plan import check_pairs, file_of, pair_plan, stage_of
from factory.stages.reward_model.config import RewardModelConfig
from factory.stages.reward_model.losses import LOSSES


class RewardModelStage:
    """A scorer learned from pairs of responses."""

    kind: ClassVar[str] = "reward_model"
    config_type: ClassVar[type] = RewardModelConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"scorer"})

    def reads(self, config: RewardModelConfig) -> tuple[str, ...]:
        """The stage whose pairs it learns from, if any."""
        return stage_of(config)

    def training_files(self, config: RewardModelConfig) -> tuple[str, ...]:
        """The file of pairs that it learns from, if any."""
        return file_of(config)

    def plan(
        self, name: str, config: RewardModelConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        """Count pairs, steps and tokens; estimate the memory.

        Raises:
            ConfigError: no source of pairs, an unknown objective, `max_length` beyond the model's context, counts out of range.
        """
        where = f"stages.{name}"
        if config.objective not in LOSSES:
            hint = near_miss(config.objective, LOSSES)
            raise ConfigError(f"{where}.objective is '{config.objective}'.{hint} Choose one of: {', '.join(LOSSES)}.")
        if not 0.0 <= config.holdout < 1.0:
            raise ConfigError(
                f"{where}.holdout is {config.holdout}; it is a share of the samples, so give 0 or more and less than 1."
            )
        if config.shape and config.shape not in SHAPES:
            hint = near_miss(config.shape, SHAPES)
            raise ConfigError(f"{where}.shape is '{config.shape}'.{hint} Choose one of: {', '.join(SHAPES)}; or leave it empty.")
        check_pairs(where, config, facts, pack)
        loss = LOSSES[config.objective]
        return pair_plan(
            name, self.kind, config, facts, build, num_pairs=max(1, round(config.pairs * (1 - config.holdout))),
            outputs=("scorer", "held_out.json", "metrics.jsonl"), notes=(f"objective {loss.name}: {loss.formula}",),
        )  # fmt: skip

    def run(self, config: RewardModelConfig, ctx: RunContext) -> Outputs:
        """Train a scorer on `ctx.model_dir`; see `train.py`."""
        from factory.stages.reward_model.train import train

        return train(config, ctx)
