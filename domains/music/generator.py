"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index).

Which split a question belongs to is decided by a hash of what it asks, so that a question of the test split is never drawn in
another split, with whatever seed.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from factory.contracts import EXACT_TEXT, IMAGE, DataRequest, Document, Lesson, Media, Message, Sample
from factory.data.splits import split_of
from factory.domains.music import melody_questions as melody
from factory.domains.music import rhythm_questions as rhythm
from factory.domains.music import theory_questions as theory
from factory.domains.music.drills import drill
from factory.domains.music.options import Options
from factory.domains.music.pictures import option_picture, score_picture, tile_notes
from factory.domains.music.question import SCORE, Maker, Question
from factory.domains.music.staff import fits
from factory.domains.music.theory_questions import OCTAVE, TILE_HIGH
from factory.packs.generated import indices, stream, system_prompt
from factory.packs.settings import read_settings

SOURCE = "music-synthetic"
SIZES = {"corpus": 5000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""
SPLIT_SHARES = {"validation": 0.15, "test": 0.2}
"""Share of all questions that belongs to each held-out split."""
EXERCISES = 4
"""Exercises in one document of the corpus."""
PROMPTS = Path(__file__).parent / "prompts"
MAKERS: Mapping[str, Maker] = {
    "interval": theory.interval, "note": theory.note, "chord": theory.chord, "chord_root": theory.chord_root,
    "chord_completion": theory.chord_completion, "chord_key_root": theory.chord_key_root, "scale": theory.scale_name,
    "scale_selection": theory.scale_selection, "key": theory.key_name, "function": theory.function, "inversion": theory.inversion,
    "time_signature": rhythm.time_signature, "bar_lines": rhythm.bar_lines, "repair": rhythm.repair,
    "transposition": melody.transposition, "motif": melody.motif, "continuation": melody.next_bar, "harmonisation": melody.harmony,
}  # fmt: skip


def options_of(request: DataRequest, also: tuple[str, ...] = ()) -> Options:
    """The request's `pack.*`, checked. Raises ConfigError."""
    return read_settings(Options, request.options, pack="music", also=also)


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Exercises with their working; in visual mode mostly pictures with the question, what is read off them, and the working."""
    options = options_of(request)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream("music", "corpus", split, seed, index)
        question = draw(rng, split, options) if options.mode == "visual" and rng.random() >= options.textbook else None
        if question is not None and question.ask.score:
            media = Media(data=score_picture(question, options.images, rng))
            asked = prompt_text(question, options, in_text=False)
            yield Document(key, f"{IMAGE}\n{asked}\n{working(question, options)} , {question.answer}", (media,), split, SOURCE)
        else:
            sheets = [
                drill(rng, high_of(options))
                if rng.random() < options.drills
                else _exercise(rng, draw(rng, split, options), options)
                for _ in range(EXERCISES)
            ]
            yield Document(key, "\n\n".join(sheets), (), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked responses."""
    options = options_of(request)
    for index in indices("lessons", split, request, SIZES):
        sample, question = _sample("lessons", split, seed, index, options)
        yield Lesson(sample, respond(question, sample, options))


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = options_of(request)
    for index in indices("samples", split, request, SIZES):
        yield _sample("samples", split, seed, index, options)[0]


def group(question: Question) -> str:
    """What makes two questions the same one; case is folded, as checks for overlap do."""
    return " ".join(f"{question.task} {question.key or question.bare}".casefold().split())


def draw(rng: random.Random, split: str, options: Options) -> Question:
    """A question of the split, by the shares of the tasks."""
    weights = options.weights
    task = rng.choices(list(weights), list(weights.values()))[0]
    make = _maker(task, options)
    while True:
        question = make(rng, high_of(options))
        if question is None or split_of(group(question), SPLIT_SHARES) != split:
            continue
        if options.mode == "text" or options.images == "sheet" or _fits_tile(question):
            return question


def high_of(options: Options) -> int:
    """Highest staff place that questions use."""
    return OCTAVE if options.span == "octave" else TILE_HIGH


def _maker(task: str, options: Options) -> Maker:
    if task == "harmonisation":
        return lambda rng, high: melody.harmony(rng, high, options.voices)
    if task == "continuation":
        return lambda rng, high: melody.next_bar(rng, high, options.bars)
    return MAKERS[task]


def _fits_tile(question: Question) -> bool:
    return question.task == "key" or fits([pitch for pitch, _ in tile_notes(question)])


def working(question: Question, options: Options) -> str:
    """The working in a few words, as the mode reads the notes."""
    return question.drawn_steps if options.mode == "visual" and question.drawn_steps else question.steps


def lettered(rng: random.Random, question: Question) -> dict[str, str]:
    """The right answer among the wrong ones in random order, under A, B, C, D."""
    order = [question.answer, *question.distractors]
    rng.shuffle(order)
    return dict(zip(string.ascii_uppercase, order, strict=False))


def _exercise(rng: random.Random, question: Question, options: Options) -> str:
    """A question in text, its working and its answer."""
    choices = lettered(rng, question) if question.distractors and rng.random() < options.choice else {}
    letter = next((name for name, text in choices.items() if text == question.answer), "")
    parts = [
        prompt_text(question, options, in_text=True),
        *option_lines(choices, options),
        f"{working(question, options)} , {question.answer}",
        letter,
    ]
    return "\n".join(part for part in parts if part)


def prompt_text(question: Question, options: Options, *, in_text: bool) -> str:
    """The question without options; the score in ABC where it is not drawn."""
    if options.style == "terse":
        return " ".join(question.terse.replace(SCORE, question.bare if in_text else "").split())
    return f"{question.full}\n{question.ask.score}" if in_text and question.ask.score else question.full


def option_lines(choices: Mapping[str, str], options: Options) -> list[str]:
    """`A minor third` or `A. minor third`, one a line."""
    mark = "" if options.style == "terse" else "."
    return [f"{letter}{mark} {text}" for letter, text in choices.items()]


def respond(question: Question, sample: Sample, options: Options) -> str:
    """The worked response in the asked form."""
    answer = str(sample.reference)
    text = working(question, options) if options.style == "terse" else question.told
    if options.mode == "visual" and options.style == "full" and question.bare:
        text = f"The notes are {question.bare}. {text}"
    if "options" in sample.meta:
        text = f"{text} , {question.answer}" if options.style == "terse" else f"{text} That is option {answer}."
    return worked(text, answer, options.form, options.thinking)


def worked(text: str, answer: str, form: str, thinking: str) -> str:
    """Working (`text`) and answer in a form."""
    if form == "boxed":
        return f"\\boxed{{{answer}}}" if thinking == "off" else f"{text}\n\\boxed{{{answer}}}"
    block = f"<answer>{answer}</answer>"
    return block if thinking == "off" else f"<think>{text}</think>{block}"


def _sample(role: str, split: str, seed: int, index: int, options: Options) -> tuple[Sample, Question]:
    rng, key = stream("music", role, split, seed, index)
    question = draw(rng, split, options)
    is_choice = bool(question.distractors) and rng.random() < options.choice
    choices = lettered(rng, question) if is_choice else {}
    is_visual = options.mode == "visual" and bool(question.ask.score)
    media = [Media(data=score_picture(question, options.images, rng))] if is_visual else []
    lines = option_lines(choices, options)
    if options.option_images and options.mode == "visual" and choices and question.draws_options:
        media += [Media(data=option_picture(question, text, options.images, rng)) for text in choices.values()]
        lines = option_lines(dict.fromkeys(choices, IMAGE), options)
    text = "\n".join([*([IMAGE] if is_visual else []), prompt_text(question, options, in_text=not is_visual), *lines])
    meta: dict[str, Any] = {
        "ask": question.ask.to_meta(), "difficulty": question.difficulty, "mode": options.mode, "form": options.form,
        "thinking": options.thinking, EXACT_TEXT: True,
    }  # fmt: skip
    if choices:
        meta["options"] = choices
    reference = next((letter for letter, said in choices.items() if said == question.answer), question.answer)
    turns = [Message("user", text)]
    if options.system != "none":
        turns.insert(0, Message("system", system_prompt(PROMPTS, options.system, form=options.form, thinking=options.thinking)))
    return Sample(key, question.task, tuple(turns), reference, tuple(media), meta, split, SOURCE), question
