"""Where the training prompts of an RL stage come from, with what is known about them beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from factory.contracts import RunContext, Sample
from factory.errors import DataError
from factory.stages.only import only
from factory.stages.rl.config import RlConfig

LESSONS = "lessons"


@dataclass(frozen=True)
class TrainingPrompts:
    """Samples to roll out."""

    samples: Sequence[Sample]
    demonstrations: Mapping[str, str] = field(default_factory=dict)
    """Sample id -> a teacher's worked response."""
    pass_rates: Mapping[str, float] = field(default_factory=dict)
    """Sample id -> pass rate measured before this stage."""
    value_stds: Mapping[str, float] = field(default_factory=dict)
    """Sample id -> standard deviation of the rewards, likewise."""
    rap_ds: Mapping[str, float] = field(default_factory=dict)
    """Sample id -> RAP's D, where the select stage asked without images too."""


def stage_read(config: RlConfig) -> str | None:
    """Name of the `select` stage that the prompts come from, None when they come from the pack."""
    return config.prompts_from if config.prompts_from not in ("", LESSONS) else None


def training_prompts(config: RlConfig, ctx: RunContext) -> TrainingPrompts:
    """Load them. Raises DataError when a select stage kept none."""

    def fetch(kind: str, num: int) -> Iterable[Any]:
        return getattr(ctx.pack, kind)("train", ctx.seed, replace(ctx.request, limit=num))

    if config.prompts_from == LESSONS:
        lessons = only(partial(fetch, "lessons"), config.samples, config.tasks, config.media, lambda lesson: lesson.sample)
        return TrainingPrompts([lesson.sample for lesson in lessons], {lesson.sample.id: lesson.response for lesson in lessons})
    samples = only(partial(fetch, "samples"), config.samples, config.tasks, config.media, lambda sample: sample)
    stage = stage_read(config)
    if stage is None:
        return TrainingPrompts(samples)
    from factory.stages.lesson_files import read_prompts

    stats = {stat.sample_id: stat for stat in read_prompts(ctx.inputs[stage])}
    kept = [sample for sample in samples if sample.id in stats and stats[sample.id].kept]
    if not kept:
        raise DataError(
            f"rl: the stage '{stage}' kept none of the {len(samples)} prompts. Loosen its limits, or give it the same `samples`."
        )
    # A prompt that counts k times is k entries of the pool, told apart by their ids.
    samples, rates, stds, gains = [], {}, {}, {}
    for sample in kept:
        stat = stats[sample.id]
        for copy in range(max(1, stat.repeat)):
            one = sample if copy == 0 else replace(sample, id=f"{sample.id}#{copy + 1}")
            samples.append(one)
            if stat.pass_rate is not None:
                rates[one.id] = stat.pass_rate
            if stat.variance is not None:
                stds[one.id] = math.sqrt(stat.variance)
            if stat.rap_d is not None:
                gains[one.id] = stat.rap_d
    return TrainingPrompts(samples, {}, rates, stds, gains)
