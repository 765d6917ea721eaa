"""The SFT loop: lessons in, packed micro-batches through the Learner, a model folder out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from factory.contracts import Lesson, Outputs, RunContext
from factory.errors import DataError
from factory.stages.batches import DataOrder, LazyEncoded, cache_bytes, deal
from factory.stages.learner import Learner
from factory.stages.metrics import Throughput
from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.load import load
from factory.stages.models.segments import attend_by_segment
from factory.stages.objectives import Filler, TokenNLL
from factory.stages.packing import collate_packed, cut
from factory.stages.sft.config import SftConfig
from factory.stages.sft.lessons import gather_lessons

log = logging.getLogger(__name__)


def train(
    config: SftConfig, ctx: RunContext, *, gathered: tuple[list[Lesson], dict[str, int]] | None = None,
    write: Callable[[Lesson, Codec], Encoded] | None = None,
) -> Outputs:  # fmt: skip
    """Train on every lesson `epochs` times; resumes by itself from the newest checkpoint.

    Args:
        gathered: lessons and how many come from where, in place of the config's.
        write: from lesson to tokens, in place of `encode`.

    Raises:
        DataError: no lessons, an unreadable one, or one whose prompt alone is too long.
        TrainingError: loss or gradient not finite.
    """
    lessons, sources = gathered or gather_lessons(config, ctx)
    write = write or encode
    if len(lessons) < config.lessons and not config.lessons_from:
        log.warning("%d lessons found, %d asked for; all of them are used", len(lessons), config.lessons)
    loaded = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
    order = DataOrder(len(lessons), config.epochs, config.batch_size, ctx.seed)
    learner = Learner.from_context(loaded, config.optim, order.num_steps, ctx)
    attend_by_segment(loaded.model)
    encoded = LazyEncoded(lessons, lambda lesson: write(lesson, loaded.codec), cache_bytes(config.cache_mb, config.epochs))

    def collate(coded: Mapping[int, Encoded], part: Sequence[int], is_filler: bool) -> Any:
        rows = [shorten(coded[i], config.max_length, lessons[i].sample.id) for i in part]
        batch = collate_packed([rows], loaded.codec, learner.device)
        return Filler(batch) if is_filler else batch

    meter, objective, figures = Throughput(), TokenNLL(), {}
    for step in range(learner.resume({"order": order}), order.num_steps):
        rows = deal_lessons(order.indices(step), lessons, learner)
        coded = {i: encoded[i] for part, _ in rows for i in part}
        figures = learner.step([collate(coded, part, is_filler) for part, is_filler in rows], objective)
        num_cut = sum(len(coded[i].ids) > config.max_length for part, is_filler in rows if not is_filler for i in part)
        num_cut = sum(learner.gather(num_cut))
        if learner.is_main:
            row = {"step": step + 1, "total": order.num_steps, "truncated": num_cut}
            ctx.log(**row, **figures, **meter.lap(figures["tokens"]))
        learner.save_checkpoint_if_due(step + 1, {"order": order})
    learner.save_model(ctx.workdir / "model")
    metrics = {
        "last_step": figures,
        "num_lessons": len(lessons),
        "num_steps": order.num_steps,
        "lessons_by_source": sources,
    } | learner.setbacks.told()
    return Outputs(model="model", metrics=metrics, files=("model", "metrics.jsonl"))


def deal_lessons(indices: Sequence[int], lessons: Sequence[Lesson], learner: Learner) -> list[tuple[list[int], bool]]:
    """This rank's micro-batches of one global batch as (indices, is_filler); lessons with and without images apart."""
    kinds = ([i for i in indices if not lessons[i].sample.media], [i for i in indices if lessons[i].sample.media])
    size = learner.optim.micro_batch_size
    dealing = (learner.rank, learner.world_size, size)
    return [dealt for kind in kinds for dealt in deal(kind, *dealing, length=lambda i: characters(lessons[i]))]


def characters(lesson: Lesson) -> int:
    """Length of prompt and response: what tells long rows from short ones before they are encoded, which each process does for its own."""
    return len(lesson.sample.text()) + len(lesson.response)


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
