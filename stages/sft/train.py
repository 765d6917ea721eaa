"""The SFT loop: lessons in, padded micro-batches through the Learner, a model folder out."""

from __future__ import annotations

import logging
from dataclasses import replace

from factory.contracts import Lesson, Outputs, RunContext
from factory.errors import DataError
from factory.stages.batches import DataOrder, LazyEncoded, micro_batches, share_of
from factory.stages.learner import Learner
from factory.stages.metrics import Throughput
from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.load import load
from factory.stages.objectives import Filler, TokenNLL
from factory.stages.packing import cut
from factory.stages.sft.config import SftConfig

log = logging.getLogger(__name__)


def train(config: SftConfig, ctx: RunContext) -> Outputs:
    """Train on every lesson `epochs` times; resumes by itself from the newest checkpoint.

    Raises:
        DataError: no lessons, an unreadable one, or one whose prompt alone is too long.
        TrainingError: loss or gradient not finite.
    """
    lessons = list(ctx.pack.lessons("train", ctx.seed, replace(ctx.request, limit=config.lessons)))[: config.lessons]
    if len(lessons) < config.lessons:
        log.warning("%d lessons found, %d asked for; all of them are used", len(lessons), config.lessons)
    loaded = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
    order = DataOrder(len(lessons), config.epochs, config.batch_size, ctx.seed)
    learner = Learner.from_context(loaded, config.optim, order.num_steps, ctx)
    encoded = LazyEncoded(lessons, lambda lesson: encode(lesson, loaded.codec), config.cache_items)
    meter, objective, figures = Throughput(), TokenNLL(), {}
    for step in range(learner.resume({"order": order}), order.num_steps):
        indices = order.indices(step)
        share = share_of(indices, learner.rank, learner.world_size)
        mine = [shorten(encoded[i], config.max_length, lessons[i].sample.id) for i in share or indices[:1]]
        batches = [loaded.codec.collate(part, device=learner.device) for part in micro_batches(mine, config.optim.micro_batch_size)]
        figures = learner.step(batches if share else [Filler(batches[0])], objective)
        num_cut = sum(learner.gather(sum(len(encoded[i].ids) > config.max_length for i in share)))
        if learner.is_main:
            ctx.log(step=step + 1, total=order.num_steps, truncated=num_cut, **figures, **meter.lap(figures["tokens"]))
        learner.save_checkpoint_if_due(step + 1, {"order": order})
    learner.save_model(ctx.workdir / "model")
    learner.drop_checkpoints()
    metrics = {"last_step": figures, "num_lessons": len(lessons), "num_steps": order.num_steps}
    return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl"))


def encode(lesson: Lesson, codec: Codec) -> Encoded:
    """Prompt, response and end of turn; learned from: the response and the end of turn."""
    return codec.lesson(lesson.sample.messages, lesson.response, lesson.sample.media)


def shorten(encoded: Encoded, max_length: int, sample_id: str) -> Encoded:
    """At most `max_length` tokens, the end cut off.

    Raises:
        DataError: nothing to learn from would be left, or an image would be cut.
    """
    try:
        short = cut(encoded, max_length)
    except DataError as err:
        raise DataError(f"lesson {sample_id}: {err}") from err
    if not any(short.loss_mask):
        raise DataError(
            f"lesson {sample_id}: its prompt alone fills max_length={max_length}, so nothing is left to learn from. "
            "Raise the stage's max_length or shorten the prompt."
        )
    return short
