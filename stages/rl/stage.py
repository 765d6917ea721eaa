"""The `rl` stage: plan it without torch; run it by putting the parts of `loop.py` together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError, FactoryError
from factory.plugins import ENGINE_GROUP, load_plugin, plugin_names
from factory.rewards.judges.settings import build_mixture
from factory.rewards.watch import read_settings
from factory.stages.deepspeed_config import split_as
from factory.stages.lesson_files import check_source
from factory.stages.models.facts import memory_bytes
from factory.stages.only import check_only
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import check, check_parts
from factory.stages.rl.engines import check_engine
from factory.stages.rl.engines.vllm_settings import check_vllm, vllm_notes
from factory.stages.rl.pieces.needs import NEEDS
from factory.stages.rl.presets import Chosen, resolve
from factory.stages.rl.prompts import stage_read

PROMPT_TOKENS = 48
"""Assumed text tokens of one prompt, for the plan's estimate only."""


class RlStage:
    """Reinforcement learning from the pack's verifiers through the mixture of rewards."""

    kind: ClassVar[str] = "rl"
    config_type: ClassVar[type] = RlConfig
    consumes: ClassVar[frozenset[str]] = frozenset({"model"})
    produces: ClassVar[frozenset[str]] = frozenset({"model"})

    def plan(self, name: str, config: RlConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        """Resolve the preset, refuse contradictions, add up what the pieces need. Pure."""
        with told_of(name):
            chosen = resolve(config)
            check_engine(config.engine)
        launch = build.get("launch") or {}
        notes = check(name, config, chosen, launch, is_moe=facts.is_moe)
        if config.engine == "vllm":
            check_vllm(name, config, facts.modality)
            notes += vllm_notes(config, facts, build)
        source = stage_read(config)
        if source in build.get("stages", {}):
            check_source(f"stages.{name}.prompts_from", str(source), "prompts", build)
        if "samples" not in pack.manifest.provides:
            raise ConfigError(
                f"stages.{name}: pack '{pack.manifest.name}' provides no samples, so there is nothing to reward. "
                "Leave the stage out."
            )
        check_only(f"stages.{name}", config.tasks, config.media, pack.manifest.tasks, facts.modality)
        with told_of(name):
            notes += check_parts(name, chosen, build_mixture(pack.manifest.tasks, build, known=pack.verifiers()))
        read_settings(build.get("watch") or {})
        prompt_tokens = PROMPT_TOKENS + facts.tokens_per_image
        if prompt_tokens + config.max_new_tokens > facts.context:
            raise ConfigError(
                f"stages.{name}.max_new_tokens={config.max_new_tokens} and a prompt of about {prompt_tokens} tokens exceed the "
                f"model's context of {facts.context}. Lower max_new_tokens."
            )
        rows = config.prompts_per_step * config.group_size
        supply = chosen.one("supply")
        largest_draw = getattr(supply, "largest_draw", supply.first_draw)
        first_draw, draws = largest_draw(config.prompts_per_step), 1 + supply.max_refills
        extra = _extra_tokens(chosen, config.max_new_tokens)
        forwards = 2 if any(getattr(term, "recompute", False) for term in chosen.many("auxiliary")) else 1
        memory, formula = self._memory(config, chosen, facts, build, rows, prompt_tokens)
        return StagePlan(
            name=name, kind=self.kind, num_samples=config.samples,
            num_steps=config.num_steps * config.updates_per_rollout * config.minibatches,
            num_tokens=config.num_steps * config.updates_per_rollout * rows * forwards
            * (prompt_tokens + config.max_new_tokens),
            num_generated_tokens=config.num_steps * draws * first_draw * config.group_size * (config.max_new_tokens + extra),
            peak_memory_bytes=memory, memory_formula=formula, outputs=("model", "metrics.jsonl", "rollouts.jsonl", "tasks.jsonl"),
            notes=(_title(chosen), *_need_notes(chosen), *_extra_notes(extra), *_refill_notes(supply.max_refills), *notes),
        )  # fmt: skip

    @staticmethod
    def _memory(
        config: RlConfig, chosen: Chosen, facts: ModelFacts, build: Mapping[str, Any], rows: int, prompt_tokens: int
    ) -> tuple[int, str]:
        launch = build.get("launch") or {}
        processes = int(launch.get("processes", 1))
        share = -(-rows // max(processes, 1))
        precision = str(getattr(build.get("precision"), "value", build.get("precision", "fp32")))
        memory, formula = memory_bytes(
            facts, precision=precision, rows=min(config.optim.micro_batch_size or share, share),
            tokens_per_row=prompt_tokens + config.max_new_tokens, adapter=config.adapter,
            gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=split_as(launch),
            processes=processes,
        )  # fmt: skip
        copies = chosen.copies_of_weights() if config.adapter.kind.value == "none" else 0.0
        if copies:
            width = 2 if precision == "bf16" else 4
            memory += round(facts.num_params * width * copies)
            formula += f" + reference {copies:g} x {facts.num_params:,} x {width} B"
        return memory, formula

    @staticmethod
    def reads(config: RlConfig) -> tuple[str, ...]:
        """Earlier stages whose files this one reads."""
        stage = stage_read(config)
        return (*config.reads, *([stage] if stage and stage not in config.reads else []))

    @staticmethod
    def plugins(config: RlConfig) -> tuple[Any, ...]:
        """Code of other packages that this stage would run: installed pieces, and the engine. Their source counts in the fingerprint."""
        own = [type(piece) for piece in resolve(config).made.values()]
        found = [piece for piece in own if not piece.__module__.startswith("factory.stages.rl.")]
        engine = config.engine.partition(":")[0]
        return (*found, load_plugin(ENGINE_GROUP, engine)) if engine in plugin_names(ENGINE_GROUP) else tuple(found)

    def run(self, config: RlConfig, ctx: RunContext) -> Outputs:
        """Load, train, save. Writes the model, metrics.jsonl, rollouts.jsonl and checkpoints under `ctx.workdir`.

        Raises:
            TrainingError: refill budget spent (`on_spent: error`), non-finite loss, sampler and learner disagree.
            RewardError: verifiers failed more often than `pool.max_error_rate`, or, in fewer than 50 verdicts, more often than not.
        """
        from factory.stages.rl.assemble import assembled

        with told_of(ctx.stage), assembled(config, ctx) as loop:
            figures = loop.run()
            loop.collector.pool.check_end()
            verdicts = loop.collector.pool.counts()
            watch = loop.collector.watch
        loop.learner.save_model(ctx.workdir / "model")
        metrics = {"last_step": figures, "verdicts": verdicts, **loop.learner.setbacks.told()}
        if watch is not None and watch.messages:
            metrics["watch"] = list(watch.messages)
        return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl", "rollouts.jsonl", "tasks.jsonl"))


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Pieces know only their slot: what they call `rl: pieces.loss` is `stages.<name>.pieces.loss` to the user."""
    try:
        yield
    except FactoryError as err:
        text = str(err).removeprefix(f"stages.{name}: ")
        if not text.startswith("rl: "):
            raise
        text = text.removeprefix("rl: ")
        is_key = text.startswith(("pieces.", "preset=", "engine="))
        told = f"stages.{name}.{text}" if is_key else f"stages.{name}: {text}"
        raise type(err)(re.sub(r"(?<![\w.])(?=pieces\.\w)", f"stages.{name}.", told)) from err


def _extra_tokens(chosen: Chosen, max_new_tokens: int) -> int:
    """Most tokens that hooks and rewards generate for a rollout beyond its own."""
    makers = [one for slot in ("hook", "reward", "group_reward") for one in chosen.many(slot) if hasattr(one, "extra_tokens")]
    return sum(one.extra_tokens(max_new_tokens) for one in makers)


def _extra_notes(extra: int) -> tuple[str, ...]:
    return (f"up to {extra} further tokens are generated for a rollout by hooks and rewards; counted",) if extra else ()


def _title(chosen: Chosen) -> str:
    changed = f", changed: {', '.join(chosen.changed)}" if chosen.changed else ""
    return f"preset {chosen.preset}{changed}"


def _need_notes(chosen: Chosen) -> tuple[str, ...]:
    return tuple(NEEDS[need].note for need in sorted(chosen.needs()))


def _refill_notes(max_refills: int) -> tuple[str, ...]:
    if not max_refills:
        return ()
    return (f"generated tokens are for {max_refills} refills in every step; most steps need one or two",)
