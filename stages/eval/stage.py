"""The `eval` stage: plan it without torch, run it through `measure.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.stages.eval.config import EvalStageConfig
from factory.stages.eval.deliberate.cost import cost_of
from factory.stages.eval.deliberate.grammar import check_against, named_files, read_deliberation
from factory.stages.models.facts import memory_bytes, model_facts

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
        """Count the samples and tokens of test, validation and (for vision packs) the blind control, and those of deliberation.

        Raises:
            ConfigError: `eval.deliberate` that cannot be read, or names what is not there.
        """
        plain = self._plain(name, facts, build)
        return _with_deliberation(plain, facts, pack, build) if build["eval"].get("deliberate") else plain

    def _plain(self, name: str, facts: ModelFacts, build: Mapping[str, Any]) -> StagePlan:
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

    @staticmethod
    def settings_files(build: Mapping[str, Any]) -> tuple[str, ...]:
        """Files and folders whose content changes what is measured: specs and scorers of deliberation."""
        return tuple(named_files(build["eval"].get("deliberate") or ""))

    def run(self, config: EvalStageConfig, ctx: RunContext) -> Outputs:
        """Measure `ctx.model_dir`; see `measure.py`."""
        from factory.stages.eval.measure import measure

        return measure(ctx)

    @staticmethod
    def _is_blind(settings: Mapping[str, Any], facts: ModelFacts) -> bool:
        return bool(settings["blind"]) and facts.modality in ("vl", "dna")


def _with_deliberation(plain: StagePlan, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
    """The plan with the second, deliberated answer to every test and validation sample."""
    settings = build["eval"]
    wanted = read_deliberation(settings["deliberate"])
    check_against(wanted, list(pack.verifiers()))
    cost = cost_of(wanted, settings["max_new_tokens"])
    per_row = PROMPT_TOKENS + facts.tokens_per_image + cost.longest
    if per_row > facts.context:
        raise ConfigError(
            f"eval.deliberate={wanted} makes rows of about {per_row} tokens, the model reads {facts.context}. "
            "Lower its token counts or eval.max_new_tokens."
        )
    answered = settings["samples"] + settings["validation_samples"]
    memory, formula = memory_bytes(
        facts, precision=build["precision"], rows=settings["batch_size"], tokens_per_row=per_row, training=False
    )
    for key in ("scorer", "critic"):
        if wanted.options.get(key):
            second, _ = memory_bytes(
                model_facts(wanted.options[key]), precision=build["precision"], rows=settings["batch_size"], tokens_per_row=per_row,
                training=False,
            )  # fmt: skip
            memory, formula = memory + second, f"{formula} + {key} {second:,} B"
    return replace(
        plain, num_samples=plain.num_samples + answered,
        num_generated_tokens=plain.num_generated_tokens + answered * cost.generated,
        peak_memory_bytes=max(plain.peak_memory_bytes, memory), memory_formula=formula,
        outputs=(*plain.outputs, "deliberated.jsonl"),
        notes=(f"deliberates by {wanted}: at most {cost.generated} tokens a sample, plain at most {settings['max_new_tokens']}",),
    )  # fmt: skip
