"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index).

A question belongs to one split by a hash of what it asks (`Question.key`), so that nothing trained on, statements of the
corpus included, asks what is held out.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.contracts import EXACT_TEXT, DataRequest, Document, Lesson, Message, Sample
from factory.domains.biology import questions, questions_variants
from factory.domains.biology.options import Options, read_options
from factory.domains.biology.questions import Question
from factory.packs.generated import indices, stream, system_prompt

SOURCE = "biology-generated"
SIZES = {"corpus": 5000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""
MAKERS = {**questions.MAKERS, **questions_variants.MAKERS}
TENTHS = {"train": range(6), "validation": range(6, 8), "test": range(8, 10)}
"""Tenths of all questions, by hash, that each split draws from."""
PROMPTS = Path(__file__).parent / "prompts"


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Statements with their working, in the words of the lessons."""
    options = read_options(request.options)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream("biology", "corpus", split, seed, index)
        lines = [statement(pose(rng, split, options), rng.random() < options.bare) for _ in range(options.statements)]
        yield Document(key, "\n".join(lines), (), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked responses."""
    options = read_options(request.options)
    for index in indices("lessons", split, request, SIZES):
        sample, question = _sample("lessons", split, seed, index, options)
        yield Lesson(sample, respond(question.steps, question.answer, options.thinking, options.system))


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = read_options(request.options)
    for index in indices("samples", split, request, SIZES):
        yield _sample("samples", split, seed, index, options)[0]


def pose(rng: random.Random, split: str, options: Options) -> Question:
    """Draw a task by its share, then a question of it that belongs to the split."""
    task = rng.choices(list(options.shares), list(options.shares.values()))[0]
    while True:
        question = MAKERS[task](rng, options.style == "terse")
        if tenth(question.key) in TENTHS[split]:
            return replace(question, text=question.dna_text) if options.sequences == "dna" else question


def tenth(key: str) -> int:
    """0 to 9, by a hash of what is asked."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 10


def statement(question: Question, is_bare: bool) -> str:
    """A question with its working and answer, or with the answer alone, as a line of the corpus."""
    return f"{question.text} ; {question.answer}" if is_bare else f"{question.text}\n{question.steps} ; {question.answer}"


def respond(steps: str, answer: str, thinking: str, system: str) -> str:
    """The worked response in the form that the system turn asks for."""
    if system == "bioreason":
        return f"<think>\n{steps}\n</think>\n\nAnswer: {answer}"
    block = f"<answer>{answer}</answer>"
    return block if thinking == "off" else f"<think>{steps}</think>{block}"


def system_turn(system: str, thinking: str) -> str:
    """Text of the system turn; empty for `none`."""
    return "" if system == "none" else system_prompt(PROMPTS, system, thinking=thinking)


def _sample(role: str, split: str, seed: int, index: int, options: Options) -> tuple[Sample, Question]:
    rng, key = stream("biology", role, split, seed, index)
    question = pose(rng, split, options)
    # Signs are the question (`->` and `-|`), and splits are by exact text: see `tenth`.
    meta: dict[str, Any] = {**question.meta, "thinking": options.thinking, "form": form_of(options.system), EXACT_TEXT: True}
    system = system_turn(options.system, options.thinking)
    turns = [Message("system", system)] if system else []
    return Sample(
        key, question.task, (*turns, Message("user", question.text)), question.reference, (), meta, split, SOURCE
    ), question


def form_of(system: str) -> str:
    """Name of the output shape that the system turn asks for."""
    return "think_line" if system == "bioreason" else "think_answer"
