"""What a question is, whatever it asks, and how its worked response is written."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.domains.medicine.phantoms import Phantom


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its exact answer and the steps to it."""

    task: str
    text: str
    reference: Any
    """What verifiers compare with."""
    answer: str
    """Text of a right answer."""
    steps: str
    """The reasoning, without its marks."""
    difficulty: str = "easy"
    phantom: Phantom | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """Letter -> text, for lettered questions."""
    meta: Mapping[str, Any] = field(default_factory=dict)


def respond(question: Question, form: str) -> str:
    """The worked response in one of the pack's forms."""
    if form == "answer":
        return f"<answer>{question.answer}</answer>"
    if form == "huatuo":
        return f"## Thinking\n\n{question.steps}\n\n## Final Response\n\n{question.answer}"
    return f"<think>{question.steps}</think><answer>{question.answer}</answer>"


def lettered(rng: random.Random, texts: Sequence[str]) -> dict[str, str]:
    """The texts in random order under A, B, C, ..."""
    return dict(zip(string.ascii_uppercase, rng.sample(texts, len(texts)), strict=False))


def option_lines(options: Mapping[str, str], style: str) -> str:
    """One line per option: `A left` (terse) or `A. left`."""
    mark = "" if style == "terse" else "."
    return "\n".join(f"{letter}{mark} {text}" for letter, text in options.items())


def letter_of(options: Mapping[str, str], text: str) -> str:
    """The letter under which a text stands."""
    return next(letter for letter, other in options.items() if other == text)
