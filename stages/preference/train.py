"""The preference loop: pairs in, reference log-probabilities once, micro-batches through the Learner, a model folder out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from factory.contracts import Outputs, RunContext
from factory.stages.batches import DataOrder
from factory.stages.learner import Learner
from factory.stages.metrics import Throughput
from factory.stages.models.load import load
from factory.stages.pair_batches import PairBatches
from factory.stages.pairs import read_pairs
from factory.stages.preference.config import PreferenceConfig
from factory.stages.preference.delta import RunningDelta
from factory.stages.preference.losses import resolve_loss
from factory.stages.preference.objective import PreferenceObjective
from factory.stages.preference.reference import drop_reference, pairs_key, reference_logprobs

log = logging.getLogger(__name__)


def train(config: PreferenceConfig, ctx: RunContext) -> Outputs:
    """Train on every pair `epochs` times; resumes by itself from the newest checkpoint.

    Raises:
        DataError: no pairs, an unreadable one, or one whose prompt alone is too long.
        TrainingError: loss or gradient not finite.
    """
    loss = resolve_loss(f"stages.{ctx.stage}", config.loss, config.weights, config.delta, config.beta)
    pairs = read_pairs(config.pairs_from, ctx, limit=config.pairs)
    if len(pairs) < config.pairs:
        log.warning("%d pairs found, %d asked for; all of them are used", len(pairs), config.pairs)
    loaded = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
    codec = loaded.codec
    order = DataOrder(len(pairs), config.epochs, config.batch_size, ctx.seed)
    learner = Learner.from_context(loaded, config.optim, order.num_steps, ctx)
    batches = PairBatches(
        pairs, learner, lambda sample, response: codec.lesson(sample.messages, response, sample.media),
        max_length=config.max_length, cache_mb=config.cache_mb,
    )  # fmt: skip
    key = pairs_key(pairs, max_length=config.max_length, precision=ctx.build["precision"])
    reference = reference_logprobs(batches, learner, ctx.workdir, key=key, pairs_per_round=config.batch_size)

    def columns(part: Sequence[int]) -> dict[str, Tensor]:
        chosen, rejected = reference[list(part)].to(learner.device).unbind(dim=1)
        return {"ref_chosen": chosen, "ref_rejected": rejected}

    delta = RunningDelta(is_on=loss.delta == "running_mean")
    objective = PreferenceObjective(loss, beta=config.beta, delta=delta)
    meter, figures, pieces = Throughput(), {}, {"order": order, "delta": delta}
    for step in range(learner.resume(pieces), order.num_steps):
        rows, num_cut = batches.step(order.indices(step), columns)
        figures = learner.step(rows, objective) | {"delta": delta.value}
        delta.update(
            chosen_reward=figures["chosen_reward"], rejected_reward=figures["rejected_reward"], num_pairs=figures["pairs"]
        )
        if learner.is_main:
            ctx.log(step=step + 1, total=order.num_steps, truncated=num_cut, **figures, **meter.lap(figures["tokens"]))
        learner.save_checkpoint_if_due(step + 1, pieces)
    learner.save_model(ctx.workdir / "model")
    drop_reference(learner, ctx.workdir)
    metrics = {"last_step": figures, "num_pairs": len(pairs), "num_steps": order.num_steps} | learner.setbacks.told()
    return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl"))
