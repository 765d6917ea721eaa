"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, SPLITS, DataRequest, Document, Lesson, Media, Message, Sample
from factory.domains.pathology.fields import draw_field, draw_region_field
from factory.domains.pathology.findings import MPP, SIDE, Field
from factory.domains.pathology.options import Options, read_options
from factory.domains.pathology.questions import Question, pose
from factory.domains.pathology.reasoning import caption, respond, textbook
from factory.domains.pathology.render import tile
from factory.errors import ConfigError

SOURCE = "pathology-synthetic"
SIZES = {"corpus": 5000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Captioned tiles, and a share of text about the table and the form of questions."""
    options = read_options(request.options)
    for index in _indices("corpus", split, request):
        rng, key = _rng("corpus", split, seed, index)
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
    for index in _indices("lessons", split, request):
        sample, question, field = _sample("lessons", split, seed, index, options)
        response = respond(question, field, style=options.style, thinking=options.thinking, extra=options.extra_findings)
        yield Lesson(sample, response)


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = read_options(request.options)
    for index in _indices("samples", split, request):
        yield _sample("samples", split, seed, index, options)[0]


def _indices(role: str, split: str, request: DataRequest) -> range:
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; want one of {', '.join(SPLITS)}.")
    return range(SIZES[role] if request.limit is None else request.limit)


def _rng(role: str, split: str, seed: int, index: int) -> tuple[random.Random, str]:
    """Random numbers of one item, and its id. Roles and splits never share a stream."""
    key = f"pathology-{role}-{split}-{seed}-{index}"
    return random.Random(key), key


def _sample(role: str, split: str, seed: int, index: int, options: Options) -> tuple[Sample, Question, Field]:
    rng, key = _rng(role, split, seed, index)
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
    if options.system != "none":
        turns.insert(0, Message("system", system_prompt(options.system, options.thinking)))
    media = (Media(data=tile(field)),)
    return Sample(key, task, tuple(turns), question.reference, media, meta, split, SOURCE), question, field


@cache
def system_prompt(name: str, thinking: str) -> str:
    """`prompts/<name>.jinja`, rendered strictly. Also used by the loaders of real data."""
    import jinja2

    folder = Path(__file__).parent / "prompts"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.jinja").render(thinking=thinking).strip()
