"""Which lessons an sft stage learns from: the pack's, those of an earlier stage or file, or both mixed. No torch."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from factory.contracts import Lesson, RunContext
from factory.errors import DataError
from factory.stages.lesson_files import find_file, read_lessons
from factory.stages.only import only
from factory.stages.sft.config import SftConfig

Item = TypeVar("Item")


def gather_lessons(config: SftConfig, ctx: RunContext) -> tuple[list[Lesson], dict[str, int]]:
    """The lessons of one epoch, at most `config.lessons`, and how many come from where.

    Raises:
        DataError: the file is missing, damaged or empty, or holds a sample that is not of the training split.
    """
    if not config.lessons_from:
        lessons = pack_lessons(config, ctx, config.lessons)
        return lessons, {"pack": len(lessons)}
    path = find_file(config.lessons_from, "lessons", ctx.inputs)
    found = read_lessons(path)
    if not found:
        raise DataError(
            f"{path}: holds no lessons, so there is nothing to imitate. Read prompts.jsonl beside it for why none was kept, and "
            "widen the window or raise the rollouts of the stage that wrote it."
        )
    num_own, num_pack = shares(len(found), config.lessons, config.mix_pack)
    own = draw(found, num_own, ctx.seed)
    expert = pack_lessons(config, ctx, num_pack) if num_pack else []
    return [*own, *expert], {config.lessons_from: len(own), "pack": len(expert)}


def pack_lessons(config: SftConfig, ctx: RunContext, limit: int) -> list[Lesson]:
    """The pack's first `limit` training lessons that fit the config's tasks and media."""

    def fetch(num: int) -> Iterable[Lesson]:
        return ctx.pack.lessons("train", ctx.seed, replace(ctx.request, limit=num))

    return only(fetch, limit, config.tasks, config.media, lambda lesson: lesson.sample)


def shares(num_found: int, limit: int, mix_pack: float) -> tuple[int, int]:
    """(own, pack): at most `limit` in all, of which the share `mix_pack` is the pack's, and as many own ones as there are.

    With n own lessons the pack adds n * mix / (1 - mix), rounded to the nearest: 30 own ones at a quarter take 10. At least one
    own lesson stays.
    """
    num_own = max(1, min(num_found, round(limit * (1 - mix_pack))))
    return num_own, min(limit - num_own, round(num_own * mix_pack / (1 - mix_pack)))


def draw(items: Sequence[Item], num: int, seed: int) -> list[Item]:
    """`num` of the items, drawn from the seed, in their order: the head of a file may be all of one sort."""
    if num >= len(items):
        return list(items)
    return [items[place] for place in sorted(random.Random(f"lessons-{seed}").sample(range(len(items)), num))]
