"""One question with its answer, its working and its wrong options, before it is dressed as a prompt."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from factory.domains.music.answers import AnswerError
from factory.domains.music.asks import KINDS, Ask, is_right
from factory.domains.music.composed import judge

SCORE = "{score}"
"""Stands in a prompt where the notes go; without an image they are written there, with one they are drawn."""
OPTIONS = 4


@dataclass(frozen=True)
class Question:
    """What is asked of a score. Two ways of asking: a few words for the embedded model, sentences for a real one."""

    task: str
    ask: Ask
    bare: str
    """The score's notes alone, as the terse prompt shows them."""
    terse: str
    full: str
    answer: str
    steps: str
    """Working in a few words, from reading the notes on."""
    told: str
    """The same in sentences."""
    difficulty: str
    """`easy`: one step or white keys. `medium`: several steps. `hard`: many accidentals, inversions, or music to write."""
    distractors: tuple[str, ...] = ()
    """Wrong options, checked to be wrong by the same computation that judges answers."""
    draws_options: bool = False
    """SSMR-Bench shows its options as images."""
    key: str = ""
    """What makes two questions the same one, for splits; empty: the task with the bare notes."""
    drawn_steps: str = ""
    """Working when the score is a picture, where it differs: a rhythm is read without its pitches."""


Maker = Callable[[random.Random, int], Question | None]
"""(random numbers, highest staff place) -> a question; None when the draw came to nothing, and the next one is tried."""


def accepts(ask: Ask, text: str) -> bool:
    """Whether a text is a right answer, computed from the score. False for one that cannot be read."""
    try:
        return is_right(ask, text) if ask.kind in KINDS else judge(ask, text).score == 1.0
    except AnswerError:
        return False


def wrong_options(
    rng: random.Random, ask: Ask, right: str, candidates: Iterable[str], count: int = OPTIONS - 1
) -> tuple[str, ...]:
    """`count` different candidates in random order, each judged wrong; fewer when there are not enough."""
    pool = list(dict.fromkeys(text for text in candidates if text != right))
    rng.shuffle(pool)
    found: list[str] = []
    for text in pool:
        if len(found) < count and not accepts(ask, text):
            found.append(text)
    return tuple(found)
