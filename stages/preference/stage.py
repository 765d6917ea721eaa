"""The `preference` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.stages.pair_plan import check_pairs, file_of, pair_plan, stage_of
from factory.stages.preference.config import PreferenceConfig
from factory.stages.preference.losses import Loss, resolve_loss


class PreferenceStage:
    """Learning from pairs of responses, of which one is preferred."""

    kind: ClassVar[str] = "preference"
    config_type: ClassVar[type] = PreferenceConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def reads(self, config: PreferenceConfig) -> tuple[str, ...]:
        """The stage whose pairs it learns from, if any."""
        return stage_of(config)

    def training_files(self, config: PreferenceConfig) -> tuple[str, ...]:
        """The file of pairs that it learns from, if any."""
        return file_of(config)

    def plan(
        self, name: str, config: PreferenceConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        """Count pairs, steps and tokens; estimate the memory.

        Raises:
            ConfigError: no source of pairs, an unknown loss, `max_length` beyond the model's context, counts below 1.
        """
        where = f"stages.{name}"
        loss = resolve_loss(where, config.loss, config.weights, config.delta, config.beta)
        check_pairs(where, config, facts, pack)
        return pair_plan(
            name, self.kind, config, facts, build, num_pairs=config.pairs, outputs=("model", "metrics.jsonl"),
            notes=(_title(config, loss), _REFERENCE),
        )  # fmt: skip

    def run(self, config: PreferenceConfig, ctx: RunContext) -> Outputs:
        """Train `ctx.model_dir` on the pairs; see `train.py`."""
        from factory.stages.preference.train import train

        return train(config, ctx)


_REFERENCE = "reference log-probs cost one forward per response before the first step; no copy of the model is kept"


def _title(config: PreferenceConfig, loss: Loss) -> str:
    terms = " + ".join(f"{weight:g} {term.name}" for term, weight in loss.terms())
    shift = f", delta {loss.delta}" if loss.weights.get("bco_pair") else ""
    return f"loss {config.loss} = {terms}, beta {config.beta:g}{shift}"
