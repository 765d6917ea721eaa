"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, Document, Lesson, Message, Sample
from factory.domains.chemistry.draw import split_of
from factory.domains.chemistry.molecules import is_molecule
from factory.domains.chemistry.options import Options, read_options
from factory.domains.chemistry.questions import Question, posers
from factory.domains.chemistry.questions_structure import drill
from factory.domains.chemistry.screening import SHIPPED, read_screen
from factory.packs.generated import indices, stream, system_prompt

SOURCE = "chemistry-synthetic"
SIZES = {"corpus": 12_000, "lessons": 800, "samples": 2000}
"""Items per split when the request sets no limit."""
_TRIES = 3000


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Statements with their working, in the words of the lessons but without the form of questions."""
    options = read_options(request.options)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream("chemistry", "corpus", split, seed, index)
        if rng.random() < options.drills:
            yield Document(key, drill(rng, options, split), (), split, SOURCE)
            continue
        question = pose(rng, split, options)
        yield Document(key, f"{question.text}\n{question.thinking}\n{question.answer}", (), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with their working."""
    options = read_options(request.options)
    for index in indices("lessons", split, request, SIZES):
        rng, key = stream("chemistry", "lessons", split, seed, index)
        question = pose(rng, split, options)
        yield Lesson(to_sample(question, key, split, options), respond(question, options))


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = read_options(request.options)
    for index in indices("samples", split, request, SIZES):
        rng, key = stream("chemistry", "samples", split, seed, index)
        yield to_sample(pose(rng, split, options), key, split, options)


def pose(rng: random.Random, split: str, options: Options) -> Question:
    """A question of a drawn task whose key belongs to the split. Raises RuntimeError when none is found: the poser is at fault."""
    task = rng.choices(list(options.shares), list(options.shares.values()))[0]
    make = posers()[task]
    for _ in range(_TRIES):
        try:
            question = make(rng, options, split)
        except RuntimeError:
            continue
        if question is not None and split_of(question.key) == split and not _is_listed(question):
            return question
    raise RuntimeError(f"no question of the task '{task}' for the split '{split}' after {_TRIES} draws")


def _is_listed(question: Question) -> bool:
    """Whether the screening list refuses a molecule of the question: such ones are not asked for."""
    texts = re.split(r"[\s.>]+", question.answer)
    if isinstance(question.reference, Mapping):
        texts += [str(value) for value in question.reference.values()]
    return any(_hits(text) for text in texts if len(text) > 3)


@lru_cache(maxsize=65_536)
def _hits(text: str) -> bool:
    return is_molecule(text) and read_screen(SHIPPED).hit_in([text]) is not None


def to_sample(question: Question, key: str, split: str, options: Options) -> Sample:
    """The question as a sample."""
    turns = [Message("user", question.text)]
    if options.system != "none":
        prompt = system_prompt(Path(__file__).parent / "prompts", options.system, thinking=options.thinking)
        turns.insert(0, Message("system", prompt))
    meta: dict[str, Any] = {**question.meta, **options.extra_meta()}
    return Sample(key, question.task, tuple(turns), question.reference, (), meta, split, SOURCE)


def respond(question: Question, options: Options) -> str:
    """The worked response."""
    answer = f"<answer>{question.answer}</answer>"
    return answer if options.thinking == "off" else f"<think>{question.thinking}</think>{answer}"
