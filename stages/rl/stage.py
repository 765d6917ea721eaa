"""The `rl` stage: plan it without torch; run it by putting the parts of `loop.py` together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError
from factory.rewards.mixture import Mixture
from factory.stages.models.facts import memory_bytes
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import check
from factory.stages.rl.engines import check_engine, make_engine
from factory.stages.rl.pieces.registry import NEEDS
from factory.stages.rl.presets import RlSettings, resolve

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
        settings = resolve(config)
        launch = build.get("launch") or {}
        notes = check(name, config, settings, launch)
        check_engine(config.engine)
        if "samples" not in pack.manifest.provides:
            raise ConfigError(
                f"stages.{name}: pack '{pack.manifest.name}' provides no samples, so there is nothing to reward. "
                "Leave the stage out."
            )
        Mixture(pack.manifest.tasks, build.get("mixture") or {})
        prompt_tokens = PROMPT_TOKENS + facts.tokens_per_image
        if prompt_tokens + config.max_new_tokens > facts.context:
            raise ConfigError(
                f"stages.{name}.max_new_tokens={config.max_new_tokens} and a prompt of about {prompt_tokens} tokens exceed the "
                f"model's context of {facts.context}. Lower max_new_tokens."
            )
        rows = config.prompts_per_step * config.group_size
        first_draw, draws = settings.supply().first_draw(), 1 + settings.max_refills
        memory, formula = self._memory(config, settings, facts, build, rows, prompt_tokens)
        return StagePlan(
            name=name, kind=self.kind, num_samples=config.samples,
            num_steps=config.num_steps * config.updates_per_rollout * config.minibatches,
            num_tokens=config.num_steps * config.updates_per_rollout * rows * (prompt_tokens + config.max_new_tokens),
            num_generated_tokens=config.num_steps * draws * first_draw * config.group_size * config.max_new_tokens,
            peak_memory_bytes=memory, memory_formula=formula, outputs=("model", "metrics.jsonl", "rollouts.jsonl"),
            notes=(_title(settings), *_need_notes(settings), *_refill_notes(settings), *notes),
        )  # fmt: skip

    @staticmethod
    def _memory(
        config: RlConfig, settings: RlSettings, facts: ModelFacts, build: Mapping[str, Any], rows: int, prompt_tokens: int
    ) -> tuple[int, str]:
        launch = build.get("launch") or {}
        processes = int(launch.get("processes", 1))
        share = -(-rows // max(processes, 1))
        precision = str(getattr(build.get("precision"), "value", build.get("precision", "fp32")))
        memory, formula = memory_bytes(
            facts, precision=precision, rows=min(config.optim.micro_batch_size or share, share),
            tokens_per_row=prompt_tokens + config.max_new_tokens, adapter=config.adapter,
            gradient_checkpointing=config.optim.gradient_checkpointing, zero_stage=int(launch.get("zero_stage", -1)),
            processes=processes,
        )  # fmt: skip
        if settings.keeps_reference() and config.adapter.kind.value == "none":
            width = 2 if precision == "bf16" else 4
            memory += facts.num_params * width
            formula += f" + reference {facts.num_params:,} x {width} B"
        return memory, formula

    def run(self, config: RlConfig, ctx: RunContext) -> Outputs:
        """Load, train, save. Writes the model, metrics.jsonl, rollouts.jsonl and checkpoints under `ctx.workdir`.

        Raises:
            TrainingError: refill budget spent (`on_spent: error`), non-finite loss, sampler and learner disagree.
            RewardError: verifiers failed more often than `pool.max_error_rate`.
        """
        from factory.rewards.pool import VerifierPool
        from factory.stages.learner import Learner
        from factory.stages.models.load import load
        from factory.stages.rl.collector import Collector
        from factory.stages.rl.logprobs import Reference
        from factory.stages.rl.loop import RlLoop
        from factory.stages.rl.pieces.sampler import PromptSampler
        from factory.stages.rl.record import RolloutLog
        from factory.stages.rl.rollouts import Sampling

        settings = resolve(config)
        check(ctx.stage, config, settings, ctx.build.get("launch") or {})
        samples = list(ctx.pack.samples("train", ctx.seed, replace(ctx.request, limit=config.samples)))
        sampler = PromptSampler(samples, seed=ctx.seed)
        mixture = Mixture(ctx.pack.manifest.tasks, ctx.build.get("mixture") or {}, known=ctx.pack.verifiers())
        loaded = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
        reference = Reference(loaded) if settings.keeps_reference() else None
        total = config.num_steps * config.updates_per_rollout * config.minibatches
        learner = Learner.from_context(loaded, config.optim, total, ctx)
        engine = make_engine(config.engine, learner, prompts_per_generation=config.prompts_per_generation)
        try:
            with VerifierPool(ctx.domain, **ctx.build["pool"]) as pool:
                collector = Collector(
                    learner=learner, engine=engine, pool=pool, mixture=mixture, settings=settings, reference=reference,
                    sampling=Sampling(config.group_size, config.max_new_tokens, config.temperature, config.top_p, config.top_k),
                    seed=ctx.seed, context=learner.max_context,
                )  # fmt: skip
                rollout_log = RolloutLog(ctx.workdir, is_main=learner.is_main)
                figures = RlLoop(config, settings, learner, collector, sampler, rollout_log, ctx).run()
                verdicts = pool.counts()
        finally:
            engine.close()
        learner.save_model(ctx.workdir / "model")
        learner.drop_checkpoints()
        metrics = {"last_step": figures, "verdicts": verdicts}
        return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl", "rollouts.jsonl"))


def _title(settings: RlSettings) -> str:
    if not settings.overridden:
        return f"preset {settings.preset}"
    return f"preset {settings.preset}, changed: " + ", ".join(f"{key}={getattr(settings, key)}" for key in settings.overridden)


def _need_notes(settings: RlSettings) -> tuple[str, ...]:
    return tuple(NEEDS[need].note for need in sorted(settings.needs()))


def _refill_notes(settings: RlSettings) -> tuple[str, ...]:
    if not settings.max_refills:
        return ()
    return (f"generated tokens are for {settings.max_refills} refills in every step; most steps need one or two",)
