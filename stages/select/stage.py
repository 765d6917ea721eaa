"""The `select` stage: plan it without torch, run it through `run.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.rewards.judges.settings import build_mixture
from factory.stages.lesson_files import LESSONS, PAIRS, PROMPTS
from factory.stages.models.facts import memory_bytes
from factory.stages.select.config import Fallback, LessonRule, PairRule, SelectConfig

PROMPT_TOKENS = 48
"""Assumed text tokens of one prompt, for the plan's estimate only."""
ROLLOUTS = "rollouts.jsonl"


class SelectStage:
    """Rejection sampling, long2short data, and choice of prompts by pass rate, variance or need of the image."""

    kind: ClassVar[str] = "select"
    config_type: ClassVar[type] = SelectConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"lessons", "pairs", "prompts"})

    def plan(self, name: str, config: SelectConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        """Count rollouts and tokens; estimate the memory.

        Raises:
            ConfigError: no samples in the pack, RAP without images, a pack fallback without lessons, no room to answer.
        """
        check(name, config, facts, pack)
        build_mixture(pack.manifest.tasks, build)
        prompt, rollouts = PROMPT_TOKENS + facts.tokens_per_image, config.rollouts + config.blind_rollouts
        rows = min(config.batch, config.samples) * max(config.rollouts, config.blind_rollouts)
        memory, formula = memory_bytes(
            facts, precision=build["precision"], rows=rows, tokens_per_row=prompt + config.max_new_tokens, training=False
        )
        return StagePlan(
            name=name, kind=self.kind, num_samples=config.samples, num_steps=-(-config.samples // config.batch), num_tokens=0,
            num_generated_tokens=config.samples * rollouts * config.max_new_tokens, peak_memory_bytes=memory,
            memory_formula=formula, outputs=(ROLLOUTS, PROMPTS, LESSONS, PAIRS), notes=(in_words(config),),
        )  # fmt: skip

    @staticmethod
    def most_pairs(settings: Mapping[str, Any]) -> int:
        """Pairs that these settings can give at most: half of a prompt's rollouts right, each against every wrong one."""
        half = settings["rollouts"] // 2
        of_one = half * (settings["rollouts"] - half)
        return int(settings["samples"] * min(of_one, settings["max_pairs"] or of_one))

    def run(self, config: SelectConfig, ctx: RunContext) -> Outputs:
        """Roll out `ctx.model_dir` and write the files; see `run.py`."""
        from factory.stages.select.run import run

        return run(config, ctx)


def check(name: str, config: SelectConfig, facts: ModelFacts, pack: DomainPack) -> None:
    """Refuse settings that cannot run. Raises ConfigError with the key and the remedy."""
    where = f"stages.{name}"
    config.validate(where)
    if "samples" not in pack.manifest.provides:
        raise ConfigError(f"{where}: pack '{pack.manifest.name}' provides no samples to roll out. Leave the stage out.")
    if config.fallback is Fallback.pack and "lessons" not in pack.manifest.provides:
        raise ConfigError(f"{where}.fallback is 'pack', but pack '{pack.manifest.name}' provides no lessons. Set it to none.")
    if config.fallback is not Fallback.none and config.lessons is LessonRule.none:
        raise ConfigError(f"{where}.fallback has no effect while {where}.lessons is none. Choose a rule, or set it to none.")
    if config.blind_rollouts and (facts.modality != "vl" or pack.manifest.modality != "vl"):
        raise ConfigError(
            f"{where}.blind_rollouts is {config.blind_rollouts}, but without images there is nothing to leave out (RAP). Set it to 0."
        )
    prompt = PROMPT_TOKENS + facts.tokens_per_image
    if prompt + config.max_new_tokens > facts.context:
        raise ConfigError(
            f"{where}.max_new_tokens={config.max_new_tokens} and a prompt of about {prompt} tokens exceed the model's context of "
            f"{facts.context}. Lower max_new_tokens."
        )


def in_words(config: SelectConfig) -> str:
    """One line for the plan: which prompts are kept and what is made of them."""
    asked = [f"pass rate > {config.min_pass:g}"] if config.min_pass is not None else []
    asked += [f"pass rate < {config.max_pass:g}"] if config.max_pass is not None else []
    asked += [f"spread in the top {1 - config.variance_quantile:.0%}"] if config.variance_quantile is not None else []
    asked += [f"the {config.variance_top} of largest variance"] if config.variance_top else []
    asked += [f"RAP D >= {config.min_rap_d:g} over {config.blind_rollouts} blind rollouts"] if config.blind_rollouts else []
    made = [f"lessons {config.lessons.value}"] if config.lessons is not LessonRule.none else []
    made += ["the pack's lesson where none is right"] if config.fallback is Fallback.pack else []
    made += [f"pairs {config.pairs.value}"] if config.pairs is not PairRule.none else []
    return f"keeps prompts with {' and '.join(asked) or 'any result'}; writes {', '.join(['prompts', *made])}"
