"""Questions with exact answers, and the worked responses and captions that teach them, from one drawn signal or puzzle."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.domains.timeseries.families import FAMILIES, asked
from factory.domains.timeseries.options import Options
from factory.domains.timeseries.puzzles import NEXT, PAIR, PUZZLES, Puzzle
from factory.domains.timeseries.series import Series
from factory.domains.timeseries.signals import Signal, draw_signal, draw_with_feature
from factory.domains.timeseries.wording import (
    ANOMALY_SENTENCES,
    CHANGE_SENTENCES,
    classify_question,
    compared,
    feature_question,
    interval_text,
    is_terse,
    joined,
    puzzle_question,
    statement,
)


@dataclass(frozen=True, eq=False)
class Item:
    """One question with everything that is made from it."""

    task: str
    series: Series
    title: str
    """Title of the plot."""
    view: str
    """How it is drawn when `pack.view` is `auto`."""
    text: str
    """The question, without picture or numbers."""
    reference: Any
    answer: str
    working: str
    """What one sees, in the order in which it decides; without the tags."""
    conclusion: str
    """The last statement of the working alone, for short reasoning."""
    caption: str
    difficulty: str
    extension: str = ""
    """Advice for TimeMaster's form; classify only."""
    meta: Mapping[str, Any] = field(default_factory=dict)


def pose(task: str, rng: random.Random, options: Options) -> Item:
    """Draw a series and a question of this task."""
    difficulty = rng.choices(list(options.difficulties), list(options.difficulties.values()))[0]
    if task in PUZZLES:
        return _puzzle_item(PUZZLES[task](rng, difficulty), rng, options.style)
    family = FAMILIES[rng.choice(options.families)]
    if task == "classify":
        return classify_item(draw_signal(rng, family, difficulty), rng, options.style)
    feature = rng.choice(list(family.features))
    return _feature_item(draw_with_feature(rng, family, difficulty, feature), feature, rng, options.style)


def classify_item(signal: Signal, rng: random.Random, style: str) -> Item:
    """Which class of its family a signal has."""
    family = signal.family
    classes = rng.sample(list(family.classes), len(family.classes))
    steps = [statement(name, signal.features[name], style) for name in asked(family, signal.label)]
    end = signal.label if is_terse(style) else f"Together this is {signal.label}."
    first = asked(family, signal.label)[0]
    return Item(
        "classify", signal.series, family.title, family.view, classify_question(f"the {family.title}", family.name, classes, style),
        signal.label, signal.label, joined([*steps, end], style), end, signal_caption(signal, rng, style), signal.difficulty,
        extension=f"With {first} {signal.features[first]} the series fits {signal.label}, so {family.advice[signal.label]}.",
        meta={"classes": list(family.classes), **_about(signal)},
    )  # fmt: skip


def _feature_item(signal: Signal, feature: str, rng: random.Random, style: str) -> Item:
    values = list(signal.family.features[feature])
    rng.shuffle(values)
    value = signal.features[feature]
    told = statement(feature, value, style)
    return Item(
        "feature", signal.series, signal.family.title, signal.family.view, feature_question(signal.family, feature, values, style),
        value, value, told, told, signal_caption(signal, rng, style), signal.difficulty,
        meta={"classes": list(signal.family.features[feature]), "feature": feature, **_about(signal)},
    )  # fmt: skip


def _about(signal: Signal) -> dict[str, Any]:
    return {"family": signal.family.name, "features": dict(signal.features), "label": signal.label, "snr": round(signal.snr, 2)}


def signal_caption(signal: Signal, rng: random.Random, style: str) -> str:
    """All features in random order, and the class at any place among them, in the words that the reasoning uses."""
    facts = [statement(name, value, style) for name, value in signal.features.items()]
    family = signal.family.name
    facts.append(f"{family} {signal.label}" if is_terse(style) else f"The class of this {signal.family.title} is {signal.label}.")
    rng.shuffle(facts)
    return joined(facts, style)


def _puzzle_item(puzzle: Puzzle, rng: random.Random, style: str) -> Item:
    words: Sequence[str] = {"forecast": NEXT, "compare": PAIR}.get(puzzle.kind, ())
    shown = rng.sample(words, len(words))
    answer = interval_text(puzzle.answer) if puzzle.kind == "anomaly" else str(puzzle.answer)
    steps, conclusion = _puzzle_working(puzzle, answer, style)
    meta: dict[str, Any] = {"classes": list(words)} if words else {}
    return Item(
        puzzle.kind, puzzle.series, f"Series of {puzzle.series.length} steps", "line",
        puzzle_question(puzzle.kind, style, length=puzzle.series.length, what=puzzle.what, words=shown),
        puzzle.answer, answer, joined([*steps, conclusion], style), conclusion, _puzzle_caption(puzzle, answer, rng, style),
        puzzle.difficulty, meta={**meta, "planted": puzzle.what},
    )  # fmt: skip


def _puzzle_working(puzzle: Puzzle, answer: str, style: str) -> tuple[list[str], str]:
    """What is seen first, and the statement that holds the answer."""
    terse = is_terse(style)
    if puzzle.kind == "anomaly":
        return [], f"anomaly {puzzle.what} {answer}" if terse else f"{ANOMALY_SENTENCES[puzzle.what]} in {answer}."
    if puzzle.kind == "change":
        return [], f"change {puzzle.what} {answer}" if terse else f"{CHANGE_SENTENCES[puzzle.what]} from time step {answer} on."
    if puzzle.kind == "compare":
        return [], compared(puzzle.what, answer, style)
    seen = [statement(name, value, style) for name, value in puzzle.seen]
    if puzzle.kind == "forecast":
        return seen, f"next {answer}" if terse else f"So it goes {answer} next."
    return seen, f"pulses {answer}" if terse else f"That makes {answer} pulses."


def _puzzle_caption(puzzle: Puzzle, answer: str, rng: random.Random, style: str) -> str:
    steps, conclusion = _puzzle_working(puzzle, answer, style)
    if puzzle.kind == "compare":
        facts = [compared(name, value, style) for name, value in puzzle.seen]
        rng.shuffle(facts)
        return joined(facts, style)
    return joined([*steps, conclusion], style)


def respond(item: Item, *, thinking: str, form: str) -> str:
    """The worked response in the form that the sample's verifiers read."""
    body = item.answer if form != "timemaster" or item.task != "classify" else None
    worked = "" if thinking == "off" else f"<think>{item.conclusion if thinking == 'short' else item.working}</think>"
    if body is None:
        return f"{worked}<class>{item.answer}</class><extension>{item.extension}</extension>"
    return f"{worked}<answer>{body}</answer>"
