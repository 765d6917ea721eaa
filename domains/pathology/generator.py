"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, DataRequest, Document, Lesson, Media, Message, Sample
from factory.domains.pathology.fields import draw_field, draw_region_field
from factory.domains.pathology.findings import MPP, SIDE, Field
from factory.domains.pathology.options import Options, read_options
from factory.domains.pathology.questions import Question, pose
from factory.domains.pathology.reasoning import caption, respond, textbook
from factory.domains.pathology.render import tile
from factory.packs.generated import indices, stream, system_prompt

SOURCE = "pathology-synthetic"
SIZES = {"corpus": 5000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Captioned tiles, and a share of text about the table and the form of questions."""
    options = read_options(request.options)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream("pathology", "corpus", split, seed, index)
        if rng.random() < options.textbook:
            yield Document(key, textbook(rng, options.style), (), split, SOURCE)
            continue
        is_region = rng.random() < options.region_captions
        field = draw_region_field(rng) if is_region else draw_field(rng, options.extra_findings)
        text = f"{IMAGE}\n{caption(rng, field, options.style, options.extra_findings)}"
        yield Document(key, text, (Media(data=tile(field)),), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked reasoning. Their tiles are not those of `samples`."""
    options = read_options(request.options)
    for index in indices("lessons", split, request, SIZES):
        sample, question, field = _sample("lessons", split, seed, index, options)
        response = respond(question, field, style=options.style, thinking=options.thinking, extra=options.extra_findings)
        yield Lesson(sample, response)


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = read_options(request.options)
    for index in indices("samples", split, request, SIZES):
        yield _sample("samples", split, seed, index, options)[0]


def _sample(role: str, split: str, seed: int, index: int, options: Options) -> tuple[Sample, Question, Field]:
    rng, key = stream("pathology", role, split, seed, index)
    task = rng.choices(list(options.shares), list(options.shares.values()))[0]
    field, question = pose(task, rng, options.style, options.extra_findings)
    meta: dict[str, Any] = {
        "mpp": MPP, "width": SIDE, "height": SIDE, "difficulty": question.difficulty, "thinking": options.thinking,
        "findings": field.findings(options.extra_findings),
        # Its own stream, so that the questions are the same with and without it.
        "caption": caption(random.Random(f"{key}-caption"), field, options.style, options.extra_findings),
    }  # fmt: skip
    if question.options:
        meta["options"] = dict(question.options)
    turns = [Message("user", f"{IMAGE}\n{question.text}")]
    if system := turn_of_system(options):
        turns.insert(0, Message("system", system))
    media = (Media(data=tile(field)),)
    return Sample(key, task, tuple(turns), question.reference, media, meta, split, SOURCE), question, field


def turn_of_system(options: Options) -> str:
    """The system turn's text, empty for `none`. Also used by the loaders of real data."""
    if options.system == "none":
        return ""
    return system_prompt(Path(__file__).parent / "prompts", options.system, thinking=options.thinking)
