"""Lessons from a model's own right answers, or from the pack where it has none. Pure but for the pack's iterator."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from factory.contracts import Lesson
from factory.stages.select.config import LessonRule
from factory.stages.select.rollouts import Scored, is_right


def right_traces(rollouts: Sequence[Scored], right_from: float) -> list[Scored]:
    """Right, finished, sighted rollouts with different texts, shortest first (then by index).

    A cut-off trace may hold the right answer, but it would teach to stop in the middle of a sentence.
    """
    fit = [rollout for rollout in rollouts if not rollout.blind and rollout.finished and is_right(rollout, right_from)]
    by_text: dict[str, Scored] = {}
    for rollout in sorted(fit, key=lambda rollout: (rollout.tokens, rollout.index)):
        by_text.setdefault(rollout.text, rollout)
    return list(by_text.values())


def own_lessons(rollouts: Sequence[Scored], rule: LessonRule, *, right_from: float, seed: int) -> list[Scored]:
    """The rollouts of one prompt that become lessons.

    `shortest_correct`: OpenVLThinker (of 4, guides B9.4), Kimi's long2short (of 8, guides B12.3). `random_correct`: one draw from
    (seed, sample id). `all_correct`: each different text once (rejection sampling: Curr-ReFT, guides B10).
    """
    traces = right_traces(rollouts, right_from)
    if rule is LessonRule.none or not traces:
        return []
    if rule is LessonRule.shortest_correct:
        return traces[:1]
    if rule is LessonRule.random_correct:
        return [random.Random(f"lesson-{seed}-{traces[0].sample}").choice(traces)]
    return sorted(traces, key=lambda rollout: rollout.index)


def pack_lessons(wanted: Iterable[str], lessons: Iterable[Lesson]) -> dict[str, Lesson]:
    """Sample id -> the pack's first lesson for it, for the wanted ids that it has; reads no further than needed."""
    missing, found = set(wanted), {}
    if not missing:
        return found
    for lesson in lessons:
        if lesson.sample.id in missing:
            missing.discard(lesson.sample.id)
            found[lesson.sample.id] = lesson
            if not missing:
                break
    return found
