"""Train one expert with the sft loop on marked lessons, and put it before the experts that the model has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from factory.contracts import Lesson, Outputs, RunContext
from factory.errors import ConfigError, DataError
from factory.stages.expert.config import ExpertConfig
from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.experts import ACCEPT, FILE, PASS, add_expert, read_experts, start_of
from factory.stages.models.load import load
from factory.stages.sft.lessons import gather_lessons
from factory.stages.sft.train import encode
from factory.stages.sft.train import train as train_sft


def train(config: ExpertConfig, ctx: RunContext) -> Outputs:
    """A folder of experts under `ctx.workdir/model`; resumes as an sft stage does.

    Raises:
        ConfigError: the model has an expert of this name. DataError: no lesson to accept, or none to pass on.
        TrainingError: loss or gradient not finite.
    """
    name = config.accepts or ctx.domain.split(",")[0]
    older = ctx.model_dir if (ctx.model_dir / FILE).is_file() else None
    if older is not None and name in read_experts(older):
        raise ConfigError(
            f"{ctx.model_dir}: has an expert '{name}' already. Start from the model as it was before, or add another pack."
        )
    lessons, sources = gather_lessons(config, ctx)
    num_own = sum(is_own(lesson, name) for lesson in lessons)
    if not 0 < num_own < len(lessons):
        raise DataError(
            f"of {len(lessons)} lessons {num_own} are {name}'s; an expert needs some to accept and some to pass on. "
            "Change --mix, or raise the stage's lessons."
        )
    outputs = train_sft(
        config, replace(ctx, model_dir=start_of(ctx.model_dir)), gathered=(lessons, sources),
        write=lambda lesson, codec: encode_marked(lesson, codec, name),
    )  # fmt: skip
    told = {"expert": name, "accepted_lessons": num_own, "passed_lessons": len(lessons) - num_own}
    if int(os.environ.get("RANK", "0")) == 0:
        add_expert(ctx.workdir / "model", name, older)
        told["accepts"] = accepted_shares(config, ctx, ctx.workdir / "model", name) if config.held_out else {}
    return replace(outputs, metrics={**outputs.metrics, **told})


def is_own(lesson: Lesson, name: str) -> bool:
    """Whether a lesson of several packs is this one's; tasks stand under their pack's name."""
    return lesson.sample.task.startswith(f"{name}/")


def encode_marked(lesson: Lesson, codec: Codec, name: str) -> Encoded:
    """ACCEPT before the response of an own lesson; PASS in place of another's. The marker is tokenised alone, as it is when asked."""
    own = is_own(lesson, name)
    row = encode(lesson if own else replace(lesson, response=""), codec)
    marker = codec.chat.plain_ids(ACCEPT if own else PASS)
    place = len(codec.prompt(lesson.sample.messages, lesson.sample.media).ids)
    ids = [*row.ids[:place], *marker, *row.ids[place:]]
    return replace(row, ids=ids, loss_mask=[*row.loss_mask[:place], *[1] * len(marker), *row.loss_mask[place:]])


def accepted_shares(config: ExpertConfig, ctx: RunContext, folder: Path, name: str) -> dict[str, float]:
    """pack -> share of its held-out questions that the new expert accepts: 1 for its own and 0 for the others would be perfect."""
    loaded = load(folder, precision=ctx.build["precision"])
    loaded.model.eval()
    asked: dict[str, list[bool]] = {}
    samples = list(ctx.pack.samples("validation", ctx.seed, replace(ctx.request, limit=config.held_out)))
    routes = loaded.experts.route(loaded.codec, [loaded.codec.prompt(one.messages, one.media) for one in samples])
    for sample, route in zip(samples, routes, strict=True):
        asked.setdefault(sample.task.partition("/")[0], []).append(route == name)
    return {pack: sum(said) / len(said) for pack, said in asked.items()}
