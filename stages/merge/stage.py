"""The `merge` stage: plan it without torch, run it through `average.py` or `choose.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.plugins import load_stage
from factory.stages.merge.config import By, How, MergeConfig
from factory.stages.models.facts import memory_bytes

PROMPT_TOKENS = 48
"""Assumed text tokens of one prompt, for the plan's estimate only."""


class MergeStage:
    """Average the weights of earlier stages, or keep the best of them."""

    kind: ClassVar[str] = "merge"
    config_type: ClassVar[type] = MergeConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def plan(self, name: str, config: MergeConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        """Estimate memory, and for `choose` the generated tokens.

        Raises:
            ConfigError: settings that cannot run, a stage in `reads` that makes no model, `choose` with a pack that has no samples.
        """
        config.validate(f"stages.{name}")
        check_models(name, config, build)
        return (
            self._plan_average(name, config, facts)
            if config.how is How.average
            else self._plan_choose(name, config, facts, pack, build)
        )

    def run(self, config: MergeConfig, ctx: RunContext) -> Outputs:
        """Write `model` under `ctx.workdir`. Under several processes the first does the work."""
        if int(os.environ.get("RANK", "0")) != 0:
            return Outputs(model="model")
        if config.how is How.average:
            from factory.stages.merge.average import average_stages

            return average_stages(config, ctx)
        from factory.stages.merge.choose import choose_stage

        return choose_stage(config, ctx)

    def _plan_average(self, name: str, config: MergeConfig, facts: ModelFacts) -> StagePlan:
        largest = facts.vocab_size * facts.hidden_size
        return StagePlan(
            name=name, kind=self.kind, num_samples=0, num_steps=len(config.reads), num_tokens=0,
            peak_memory_bytes=facts.num_params * 4 + 3 * largest * 8,
            memory_formula=f"one model {facts.num_params:,} x 4 B (adapters are merged first) + largest tensor 3 x {largest:,} x 8 B",
            outputs=("model", "merge.json"),
            notes=(f"averages {', '.join(config.reads)}: {len(config.reads)} models are read once, tensor by tensor",),
        )  # fmt: skip

    def _plan_choose(
        self, name: str, config: MergeConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        if "samples" not in pack.manifest.provides:
            raise ConfigError(
                f"stages.{name}: pack '{pack.manifest.name}' provides no samples, so no model can be chosen by them. "
                f"Set stages.{name}.how=average, or leave the stage out."
            )
        if config.max_new_tokens >= facts.context:
            raise ConfigError(
                f"stages.{name}.max_new_tokens is {config.max_new_tokens}; the model reads {facts.context} tokens in all. Lower it."
            )
        answers = config.samples * len(config.reads)
        per_row = PROMPT_TOKENS + facts.tokens_per_image + config.max_new_tokens
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=config.batch_size, tokens_per_row=per_row, training=False
        )
        what = "entropy at critical words" if config.by is By.critical_entropy else "validation score"
        return StagePlan(
            name=name, kind=self.kind, num_samples=answers, num_steps=0, num_tokens=0,
            num_generated_tokens=answers * config.max_new_tokens, peak_memory_bytes=memory, memory_formula=formula,
            outputs=("model", "merge.json"), notes=(f"keeps one of {', '.join(config.reads)} by {what}",),
        )  # fmt: skip


def check_models(name: str, config: MergeConfig, build: Mapping[str, Any]) -> None:
    """Refuse sources without a model before anything runs. Raises ConfigError with the stages that have one."""
    kinds = {stage: section["kind"] for stage, section in build.get("stages", {}).items()}
    for source in config.reads:
        if source in kinds and "model" not in load_stage(kinds[source]).produces:
            makers = [stage for stage, kind in kinds.items() if stage != name and "model" in load_stage(kind).produces]
            raise ConfigError(
                f"stages.{name}.reads names '{source}', a stage of kind '{kinds[source]}', which makes no model. "
                f"Stages that do: {', '.join(['base', *makers])}."
            )
