"""The `preference` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.stages.batches import num_steps
from factory.stages.models.facts import memory_bytes
from factory.stages.pairs import check_source, is_file
from factory.stages.preference.config import PreferenceConfig
from factory.stages.preference.losses import Loss, resolve_loss

TEXT_TOKENS = 256
"""Assumed text tokens of a prompt with one response, for the plan's estimate only."""


class PreferenceStage:
    """Learning from pairs of responses, of which one is preferred."""

    kind: ClassVar[str] = "preference"
    config_type: ClassVar[type] = PreferenceConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def reads(self, config: PreferenceConfig) -> tuple[str, ...]:
        """The stage whose pairs it learns from, if any."""
        return () if not config.pairs_from or is_file(config.pairs_from) else (config.pairs_from,)

    def training_files(self, config: PreferenceConfig) -> tuple[str, ...]:
        """The file of pairs that it learns from, if any; its content counts in the fingerprint and the overlap check."""
        return (config.pairs_from,) if config.pairs_from and is_file(config.pairs_from) else ()

    def plan(
        self, name: str, config: PreferenceConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        """Count pairs, steps and tokens; estimate the memory.

        Raises:
            ConfigError: no source of pairs, an unknown loss, `max_length` beyond the model's context, counts below 1.
        """
        loss = check(name, config, facts, pack)
        per_row = min(config.max_length, TEXT_TOKENS + facts.tokens_per_image)
        launch = build["launch"]
        share = 2 * -(-config.batch_size // max(1, launch["processes"]))
        micro = config.optim.micro_batch_size
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=min(max(2, micro), share) if micro else share, tokens_per_row=per_row,
            adapter=config.adapter, gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=launch["zero_stage"],
            processes=launch["processes"],
        )  # fmt: skip
        return StagePlan(
            name=name, kind=self.kind, num_samples=config.pairs * config.epochs,
            num_steps=num_steps(config.pairs, config.epochs, config.batch_size),
            num_tokens=2 * config.pairs * config.epochs * per_row, peak_memory_bytes=memory, memory_formula=formula,
            outputs=("model", "metrics.jsonl"), notes=(_title(config, loss), _REFERENCE),
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


def check(name: str, config: PreferenceConfig, facts: ModelFacts, pack: DomainPack) -> Loss:
    """Refuse settings that cannot run; return the loss. Raises ConfigError with the key and the remedy."""
    where = f"stages.{name}"
    loss = resolve_loss(where, config.loss, config.weights, config.delta, config.beta)
    for key in ("pairs", "epochs", "batch_size"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{where}.{key} is {getattr(config, key)}; give 1 or more.")
    if not 2 <= config.max_length <= facts.context:
        raise ConfigError(
            f"{where}.max_length is {config.max_length}; the model reads 2 to {facts.context} tokens. "
            f"Set {where}.max_length={min(2048, facts.context)}."
        )
    check_source(where, config.pairs_from, pack)
    return loss
