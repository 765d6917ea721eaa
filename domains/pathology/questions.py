"""Questions about one field, with their exact answers, in two styles: a few words, or sentences."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.domains.pathology.decision import FULL_NAMES, axes, candidates, diagnose
from factory.domains.pathology.fields import draw_field, draw_region_field
from factory.domains.pathology.findings import CORE, SIDE, VALUES, Field

PHRASES: Mapping[str, str] = {
    "stain": "the stain", "size": "the size of the nuclei", "density": "the density of nuclei", "gland": "a gland",
    "dab": "the brown (DAB) staining", "shape": "the variation in nuclear size", "mitosis": "a mitosis", "necrosis": "necrosis",
}  # fmt: skip
"""Finding -> its name inside a sentence."""
FULL_VALUES: Mapping[str, str] = {"he": "H&E", "ihc": "immunohistochemistry"}
"""Values that a sentence writes otherwise."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a field. `answer` is the text of a right answer; `reference` is what verifiers compare with."""

    task: str
    text: str
    reference: Any
    answer: str
    difficulty: str
    """`easy`: one finding. `medium`: one finding and one more step. `hard`: three findings and the table."""
    asked: tuple[str, ...]
    """Findings to be named in the reasoning, in order."""
    options: Mapping[str, str] | None = None
    """Letter -> text, for lettered questions."""
    conclusion: str = ""
    """What follows from the findings: the diagnosis, or empty."""


def pose(task: str, rng: random.Random, style: str, extra: tuple[str, ...]) -> tuple[Field, Question]:
    """Draw a field and a question of this task. The field is drawn so that every answer of a finding is equally likely."""
    if task == "region":
        field = draw_region_field(rng)
        return field, _region(field, style)
    if task in ("diagnosis", "impression"):
        field = draw_field(rng, extra, stain=rng.choices(("he", "ihc"), (3, 1))[0])
        found = field.findings(extra)
        return field, diagnosis_question(rng, found, style) if task == "diagnosis" else _impression(found, style)
    name = rng.choice(CORE + extra)
    field = draw_field(rng, extra, stain="ihc" if name == "dab" else None)
    value = field.findings(extra)[name]
    make = {"finding": _finding, "yes_no": yes_no_question, "choice": choice_question}[task]
    return field, make(rng, name, value, style)


def shown(value: str, style: str) -> str:
    """A finding's value or a diagnosis as the style writes it."""
    return value if style == "terse" else FULL_VALUES.get(value, FULL_NAMES.get(value, value))


def lettered(rng: random.Random, texts: Sequence[str]) -> dict[str, str]:
    """The texts in random order under A, B, C, ..."""
    order = rng.sample(texts, len(texts))
    return dict(zip(string.ascii_uppercase, order, strict=False))


def option_lines(options: Mapping[str, str], style: str) -> str:
    """One line per option: `A large` or `A. large`."""
    mark = "" if style == "terse" else "."
    return "\n".join(f"{letter}{mark} {text}" for letter, text in options.items())


def _finding(rng: random.Random, name: str, value: str, style: str) -> Question:
    words = rng.sample([shown(v, style) for v in VALUES[name]], len(VALUES[name]))
    text = f"{name} : {' or '.join(words)} ?"
    if style == "full":
        text = f"Is {PHRASES[name]} {', '.join(words[:-1])} or {words[-1]} in this field?"
    return Question("finding", text, shown(value, style), shown(value, style), "easy", (name,))


def yes_no_question(rng: random.Random, name: str, value: str, style: str) -> Question:
    """Whether a statement about one finding is true; half of them are."""
    is_true = rng.random() < 0.5
    asked = value if is_true else rng.choice([v for v in VALUES[name] if v != value])
    text = f"is {name} {asked} ?"
    if style == "full":
        text = f"Is {PHRASES[name]} {shown(asked, style)} in this field? Answer yes or no."
    answer = "yes" if is_true else "no"
    return Question("yes_no", text, answer, answer, "easy", (name,))


def choice_question(rng: random.Random, name: str, value: str, style: str) -> Question:
    """Which of the finding's values, in random order under letters."""
    options = lettered(rng, [shown(v, style) for v in VALUES[name]])
    stem = f"{name} ?" if style == "terse" else f"Which option is true of {PHRASES[name]} in this field?"
    return _with_options("choice", stem, options, shown(value, style), "medium", (name,), style)


def diagnosis_question(rng: random.Random, findings: Mapping[str, str], style: str) -> Question:
    """Which of four neighbouring cells of the table."""
    options = lettered(rng, [shown(v, style) for v in candidates(findings)])
    is_he = findings["stain"] == "he"
    stem = "diagnosis ?" if is_he else "score ?"
    if style == "full":
        stem = "Which diagnosis fits this field best?" if is_he else "Which score does the brown staining of this field have?"
    right = shown(diagnose(findings), style)
    return _with_options("diagnosis", stem, options, right, "hard" if is_he else "medium", axes(findings), style, right)


def _impression(findings: Mapping[str, str], style: str) -> Question:
    """The same as a diagnosis, in the model's own words: no options to guess among."""
    is_he = findings["stain"] == "he"
    text = "diagnosis ?" if is_he else "score ?"
    if style == "full":
        text = "Name the diagnosis of this field." if is_he else "Name the score of the brown staining of this field."
    right = shown(diagnose(findings), style)
    return Question("impression", text, right, right, "hard" if is_he else "medium", axes(findings), None, right)


def _with_options(
    task: str,
    stem: str,
    options: Mapping[str, str],
    right: str,
    difficulty: str,
    asked: tuple[str, ...],
    style: str,
    conclusion: str = "",
) -> Question:
    letter = next(key for key, text in options.items() if text == right)
    return Question(task, f"{stem}\n{option_lines(options, style)}", letter, letter, difficulty, asked, options, conclusion)


def _region(field: Field, style: str) -> Question:
    assert field.nest is not None
    text = "box of nest ?"
    if style == "full":
        text = f"Give the box around the one nest with a capsule as [x1, y1, x2, y2], in pixels of this {SIDE} x {SIDE} image."
    box = list(field.nest)
    return Question("region", text, box, str(box), "medium", ("nest",))
