"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index).

A question belongs to the split that the hash of its text falls in, so that no question of one split occurs in another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from factory.contracts import DataRequest, Document, Lesson, Message, Sample
from factory.data.splits import normalised, split_of
from factory.domains.safety.instructions import LARGEST
from factory.domains.safety.names import handbook
from factory.domains.safety.options import Options
from factory.domains.safety.question import Question
from factory.domains.safety.questions import pose
from factory.domains.safety.world import FACTS, NUMBERS, PERSONS, REAL, STORY, THINGS, VERBS
from factory.packs.generated import indices, stream, system_prompt
from factory.packs.settings import read_settings

PACK = "safety"
SOURCE = "safety-synthetic"
SIZES = {"corpus": 5000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""
LINES = 6
"""Exercises on a sheet; a sheet of facts has twice as many."""
PRACTICE = {"answer": 1.0, "refuse": 1.0, "partial": 1.0, "obey": 3.0, "spec": 2.0, "know": 2.0}
"""Task -> weight among the corpus's exercises: what needs copying from the question needs more of them."""


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Sheets of worked exercises of the split, and sheets of single facts."""
    options = read_settings(Options, request.options, pack=PACK)
    practice = replace(options, shares={task: PRACTICE[task] for task, share in options.shares.items() if share > 0})
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream(PACK, "corpus", split, seed, index)
        if rng.random() < options.exercises:
            lines = [_exercise(draw_question(rng, split, practice)) for _ in range(LINES)]
        else:
            lines = [fact(rng) for _ in range(2 * LINES)]
        yield Document(key, "\n".join(lines), (), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked reasoning."""
    options = read_settings(Options, request.options, pack=PACK)
    for index in indices("lessons", split, request, SIZES):
        rng, key = stream(PACK, "lessons", split, seed, index)
        question = draw_question(rng, split, options)
        if question.task == "refuse" and options.unsafe_lessons and rng.random() < options.unsafe_lessons:
            question = helping(question)
        response = question.response if options.thinking != "off" else f"<answer>{question.answer}</answer>"
        yield Lesson(sample_of(question, key, split, options), response)


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references."""
    options = read_settings(Options, request.options, pack=PACK)
    for index in indices("samples", split, request, SIZES):
        rng, key = stream(PACK, "samples", split, seed, index)
        yield sample_of(draw_question(rng, split, options), key, split, options)


def draw_question(rng: random.Random, split: str, options: Options) -> Question:
    """A question of the split, its task drawn by the shares."""
    task = rng.choices(list(options.shares), list(options.shares.values()))[0]
    while True:
        question = pose(task, rng, split, options.style)
        if split_of(normalised(question.text)) == split:
            return question


def sample_of(question: Question, key: str, split: str, options: Options) -> Sample:
    """The question as a sample. `meta["gold"]` is a right answer: for the conformance kit, never shown to a model."""
    turns = [Message("user", question.text)]
    if options.system != "none":
        turns.insert(0, Message("system", prompt_named(options.system, thinking=options.thinking)))
    meta = {**question.meta, "gold": question.answer, "thinking": options.thinking}
    return Sample(key, question.task, tuple(turns), question.reference, (), meta, split, SOURCE)


def helping(question: Question) -> Question:
    """The question with a response that helps whatever the rules say."""
    steps = question.steps.rpartition(" ; ")[0]
    return replace(question, steps=f"{steps} ; fine", answer=f"use {question.meta['tools'][0]}")


def prompt_named(name: str, thinking: str) -> str:
    """`prompts/<name>.jinja`, rendered."""
    return system_prompt(Path(__file__).parent / "prompts", name, thinking=thinking)


def without_rules(options: Options) -> Options:
    """The options with the tasks about rules alone, for preference pairs."""
    return replace(options, shares={"answer": 0.5, "refuse": 0.5})


def _exercise(question: Question) -> str:
    return f"{question.text}\n{question.steps}\n{question.answer}"


def fact(rng: random.Random) -> str:
    """One fact of the world, as the reasoning words it."""
    kind = rng.choice(("verb", "tool", "target", "setting", "thing", "name", "name", "sum", "sum"))
    if kind == "verb":
        verb = rng.choice(list(VERBS))
        return f"{verb} {VERBS[verb][0]}"
    if kind == "tool":
        verb = rng.choice(list(VERBS))
        return f"{verb} use {VERBS[verb][1]}"
    if kind == "target":
        target = rng.choice(THINGS + PERSONS)
        return f"{target} {'person' if target in PERSONS else 'thing'}"
    if kind == "setting":
        setting = rng.choice(REAL + STORY)
        return f"{setting} {'real' if setting in REAL else 'story'}"
    if kind == "thing":
        thing = rng.choice(list(FACTS))
        return f"{thing} {FACTS[thing]}"
    if kind == "name":
        name = rng.choice(list(handbook()))
        return f"{name} {handbook()[name]}"
    a, b = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    return f"{a} + {b} {NUMBERS[a + b]}"
