"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index)."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from factory.contracts import EXACT_TEXT, IMAGE, DataRequest, Document, Lesson, Media, Message, Sample
from factory.domains.medicine import image_questions as image
from factory.domains.medicine import text_questions as text
from factory.domains.medicine.opinions import attending_question
from factory.domains.medicine.options import Options
from factory.domains.medicine.phantoms import SIDE, draw_phantom
from factory.domains.medicine.questions import Question, respond
from factory.domains.medicine.render import render
from factory.packs.generated import indices, stream, system_prompt
from factory.packs.settings import read_settings

PACK, SOURCE = "medicine", "medicine-synthetic"
SIZES = {"corpus": 6000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""
TEXT_SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
"""Tenths of all texts, by hash, that belong to each split: a question without an image is the same text whoever draws it."""
EXERCISES = 5
"""Exercises on one sheet of the corpus."""
TEXT_TASKS = ("acid_base", "ecg", "calculator", "entities")


def options_of(request: DataRequest) -> Options:
    """The request's options for generated data. Raises ConfigError."""
    return read_settings(Options, request.options, pack=PACK)


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Captioned phantoms, and sheets of worked exercises in text."""
    options = options_of(request)
    weights = [options.shares.get(task, 0.0) for task in TEXT_TASKS]
    weights = weights if any(weights) else [1.0] * len(TEXT_TASKS)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream(PACK, "corpus", split, seed, index)
        if rng.random() < options.textbook:
            sheet = "\n\n".join(
                _exercise(_pose_text(task, rng, split, options)) for task in rng.choices(TEXT_TASKS, weights, k=EXERCISES)
            )
            yield Document(key, sheet, (), split, SOURCE)
            continue
        phantom = draw_phantom(rng)
        shown = f"{IMAGE}\n{image.shuffled_caption(rng, phantom, options.style)}"
        yield Document(key, shown, (Media(data=render(phantom)),), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked responses. Their images are not those of `samples`."""
    options = options_of(request)
    for index in indices("lessons", split, request, SIZES):
        sample, question = _sample("lessons", split, seed, index, options)
        yield Lesson(sample, respond(question, options.form))


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = options_of(request)
    for index in indices("samples", split, request, SIZES):
        yield _sample("samples", split, seed, index, options)[0]


def pose(task: str, rng: random.Random, split: str, options: Options) -> Question:
    """A question of this task that belongs to this split."""
    style = options.style
    on_images: dict[str, Callable[[], Question]] = {
        "closed": lambda: image.closed_question(rng, style), "judgement": lambda: image.judgement_question(rng, style),
        "open": lambda: image.open_question(rng, style), "report": lambda: image.report_question(rng, style),
        "attending": lambda: attending_question(rng, style, options.specialists),
    }  # fmt: skip
    if task in on_images:
        return on_images[task]()
    if task == "triage" and (style == "terse" or rng.random() < 0.5):
        return image.triage_question(rng, style)
    if task == "choice" and rng.random() < 0.5:
        return image.choice_question(rng, style)
    return _pose_text(task, rng, split, options)


def _pose_text(task: str, rng: random.Random, split: str, options: Options) -> Question:
    """A question without an image, drawn again until its text belongs to the split."""
    style = options.style
    makers: dict[str, Callable[[], Question]] = {
        "acid_base": lambda: text.acid_base_question(rng, style), "ecg": lambda: text.ecg_question(rng, style),
        "calculator": lambda: text.calculator_question(rng, options), "entities": lambda: text.entities_question(rng, style),
        "choice": lambda: text.calculator_choice(rng, options), "triage": lambda: text.triage_from_text(rng),
    }  # fmt: skip
    while True:
        question = makers[task]()
        if belongs_to(question, split):
            return question


def belongs_to(question: Question, split: str) -> bool:
    """Whether a text question is of this split: by the hash of its text, options left out (their order is chance)."""
    stem = question.text.partition("\n")[0] if question.options else question.text
    return zlib.crc32(stem.encode()) % 10 in TEXT_SHARES[split]


def _exercise(question: Question) -> str:
    """Question, working and answer on one sheet, without the marks of a response."""
    return f"{question.text}\n{question.steps}\n{question.answer}"


def _sample(role: str, split: str, seed: int, index: int, options: Options) -> tuple[Sample, Question]:
    rng, key = stream(PACK, role, split, seed, index)
    task = rng.choices(list(options.shares), list(options.shares.values()))[0]
    question = pose(task, rng, split, options)
    meta: dict[str, Any] = {"difficulty": question.difficulty, "form": options.form, **question.meta}
    if question.options:
        meta["options"] = dict(question.options)
    media: tuple[Media, ...] = ()
    content = question.text
    if question.phantom is None:
        meta[EXACT_TEXT] = True
    else:
        media, content = (Media(data=render(question.phantom)),), f"{IMAGE}\n{question.text}"
        meta |= {"width": SIDE, "height": SIDE, "findings": question.phantom.findings()}
    turns = [Message("user", content)]
    if options.system != "none":
        prompt = system_prompt(Path(__file__).parent / "prompts", options.system, form=options.form)
        turns.insert(0, Message("system", prompt))
    return Sample(key, task, tuple(turns), question.reference, media, meta, split, SOURCE), question
