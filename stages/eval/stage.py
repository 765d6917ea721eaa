"""The `eval` stage: plan it without torch, run it through `measure.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.stages.eval.config import EvalStageConfig
from factory.stages.models.facts import memory_bytes

PROMPT_TOKENS = 48
"""Assumed text tokens of one prompt, for the plan's estimate only."""


class EvalStage:
    """Generate on held-out samples, verify, and ask the pack's probes."""

    kind: ClassVar[str] = "eval"
    config_type: ClassVar[type] = EvalStageConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"eval"})

    def plan(
        self, name: str, config: EvalStageConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]
    ) -> StagePlan:
        """Count the samples and tokens of test, validation and (for vision packs) the blind control."""
        settings = build["eval"]
        passes = settings["samples"] * (2 if self._is_blind(settings, facts) else 1) + settings["validation_samples"]
        prompt = PROMPT_TOKENS + facts.tokens_per_image
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=settings["batch_size"], tokens_per_row=prompt + settings["max_new_tokens"],
            training=False,
        )  # fmt: skip
        return StagePlan(
            name=name, kind=self.kind, num_samples=passes, num_steps=0, num_tokens=0,
            num_generated_tokens=passes * settings["max_new_tokens"], peak_memory_bytes=memory, memory_formula=formula,
            outputs=("eval.json", "samples.jsonl"),
        )  # fmt: skip

    def run(self, config: EvalStageConfig, ctx: RunContext) -> Outputs:
        """Measure `ctx.model_dir`; see `measure.py`."""
        from factory.stages.eval.measure import measure

        return measure(ctx)

    @staticmethod
    def _is_blind(settings: Mapping[str, Any], facts: ModelFacts) -> bool:
        return bool(settings["blind"]) and facts.modality == "vl"
