"""The picture of a question's score, and of an option: a 64 px tile, or a sheet engraved by verovio."""

from __future__ import annotations

import random
from fractions import Fraction

from factory.domains.music.abc_reader import read_abc
from factory.domains.music.options_drawn import option_score
from factory.domains.music.pitch import Pitch
from factory.domains.music.question import Question
from factory.domains.music.staff import notes_tile, signature_tile


def tile_notes(question: Question) -> list[tuple[Pitch, Fraction | None]]:
    """Notes of the score in written order, chords note by note; lengths only where the question is about them."""
    with_lengths = question.task == "time_signature"
    return [(pitch, note.duration if with_lengths else None) for note in question.ask.tune().notes() for pitch in note.pitches]


def score_picture(question: Question, images: str, rng: random.Random) -> bytes:
    """PNG bytes of the score.

    Args:
        images: `tile` or `sheet`.
    """
    if images == "sheet":
        from factory.domains.music.sheet import sheet_png

        return sheet_png(question.ask.score, rng)
    if question.task == "key":
        return signature_tile(question.ask.tune().key, rng)
    return notes_tile(tile_notes(question), rng)


def option_picture(question: Question, text: str, images: str, rng: random.Random) -> bytes:
    """PNG bytes of one option: notes in ABC, or a note's name that completes the score."""
    score = option_score(question.ask, text)
    if images == "sheet":
        from factory.domains.music.sheet import sheet_png

        return sheet_png(score, rng)
    return notes_tile([(pitch, None) for note in read_abc(score).notes() for pitch in note.pitches], rng)
