"""Put the parts of a run together: model, learner, engine, verifier pool, prompts, pieces. Everything is closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from factory.contracts import RunContext
from factory.rewards.judges.pool import scoring_pool
from factory.rewards.judges.settings import build_mixture, with_stage_paths
from factory.rewards.watch import make_watch
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.rl.collector import Collector
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import check, check_parts
from factory.stages.rl.engines import make_engine
from factory.stages.rl.loop import RlLoop
from factory.stages.rl.one_step_off import OneStepOff
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.presets import Chosen, resolve
from factory.stages.rl.prompts import TrainingPrompts, training_prompts
from factory.stages.rl.record import RolloutLog
from factory.stages.rl.reference import make_reference
from factory.stages.rl.rollouts import Sampling
from factory.stages.rl.services import RunServices


@contextmanager
def assembled(config: RlConfig, ctx: RunContext) -> Iterator[RlLoop]:
    """The loop of a run, ready for `run()` or for single `step()`s.

    Raises:
        ConfigError: pieces or settings that contradict. DataError: no prompts. ModelError: the model cannot be loaded.
    """
    chosen = resolve(config)
    check(ctx.stage, config, chosen, ctx.build.get("launch") or {})
    found = training_prompts(config, ctx)
    prompts = make_pool(chosen, found)
    mixture = build_mixture(ctx.pack.manifest.tasks, ctx.build, known=ctx.pack.verifiers())
    check_parts(ctx.stage, chosen, mixture)
    loaded = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
    reference = make_reference(loaded, chosen)
    total = config.num_steps * config.updates_per_rollout * config.minibatches
    learner = Learner.from_context(loaded, config.optim, total, ctx)
    engine = make_engine(config.engine, learner, prompts_per_generation=config.prompts_per_generation, config=config, ctx=ctx)
    engine = OneStepOff(engine, learner, config.num_steps) if config.one_step_off else engine
    sampling = Sampling(config.group_size, config.max_new_tokens, config.temperature, config.top_p, config.top_k)
    try:
        with scoring_pool(ctx.domain, with_stage_paths(ctx.build, ctx.inputs), mixture, workdir=ctx.workdir) as pool:
            collector = Collector(
                learner=learner, engine=engine, pool=pool, mixture=mixture, chosen=chosen, reference=reference,
                sampling=sampling, seed=ctx.seed, context=learner.max_context,
                watch=make_watch(ctx.build, ctx.domain, mixture) if learner.is_main else None,
            )  # fmt: skip
            services = RunServices(
                learner, engine, reference, collector.prompt, collector.verify, sampling, ctx.seed, found.demonstrations,
                score_pairs=collector.score, read_rollout=collector.read,
                sample_of=lambda sample_id: chosen.one("format").render(prompts.sample_of(sample_id)),
            )  # fmt: skip
            rollout_log = RolloutLog(ctx.workdir, is_main=learner.is_main)
            yield RlLoop(config, chosen, learner, collector, prompts, rollout_log, services, ctx)
    finally:
        engine.close()


def make_pool(chosen: Chosen, found: TrainingPrompts) -> PromptPool:
    """The prompts with what is known of them, under the chosen pool pieces."""
    pieces = chosen.many("pool")
    return PromptPool(
        found.samples, keeps=[piece.keeps for piece in pieces], offline=found.pass_rates, offline_stds=found.value_stds,
        rap_ds=found.rap_ds, watchers=[piece.look for piece in pieces if hasattr(piece, "look")],
    )  # fmt: skip
