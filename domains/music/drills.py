"""Drills: what every question takes for granted. Notes copied, said in words and written again, letters walked, semitones counted."""

from __future__ import annotations

import random
from fractions import Fraction

from factory.domains.music.abc_writer import bare_notes, words
from factory.domains.music.intervals import natural_semitones
from factory.domains.music.meter import write_length
from factory.domains.music.pitch import LETTERS, Pitch, from_step, to_abc


def _notes(rng: random.Random, high: int, count: int) -> list[Pitch]:
    return [from_step(place, rng.choices((0, 1, -1), (6, 2, 2))[0]) for place in rng.sample(range(28, high + 1), count)]


def copy(rng: random.Random, high: int) -> str:
    """A row of notes, again."""
    row = bare_notes(_notes(rng, high, rng.randint(1, 6)))
    return f"copy {row} ?\n{row}"


def read(rng: random.Random, high: int) -> str:
    """A row of notes in words, as workings begin."""
    row = _notes(rng, high, rng.randint(1, 6))
    return f"read {bare_notes(row)} ?\nnotes {words(row)}"


def write(rng: random.Random, high: int) -> str:
    """Words as notes, as workings end."""
    row = _notes(rng, high, rng.randint(1, 4))
    return f"write {words(row)} ?\n{bare_notes(row)}"


def lengths(rng: random.Random, high: int) -> str:
    """Notes with lengths, again."""
    row = " ".join(to_abc(pitch) + write_length(Fraction(rng.randint(1, 4))) for pitch in _notes(rng, high, rng.randint(2, 5)))
    return f"copy {row} ?\n{row}"


def letters(rng: random.Random, high: int) -> str:
    """Letters walked from one to another, with the semitones without accidentals."""
    first, steps = rng.randrange(7), rng.randint(1, 7)
    row = [LETTERS[(first + index) % 7] for index in range(steps + 1)]
    size = natural_semitones(row)
    if rng.random() < 0.5:
        return f"up {row[0]} to {row[-1]} ?\n{' '.join(row).lower()} {size}"
    return f"down {row[-1]} to {row[0]} ?\n{' '.join(row[::-1]).lower()} {size}"


def semitones(rng: random.Random, high: int) -> str:
    """Semitones between two neighbouring notes of a third."""
    low = _notes(rng, high, 1)[0]
    above = from_step(low.step + rng.choice((1, 2, 2)), rng.choice((-1, 0, 0, 1)))
    return f"semitones {low.word} {above.word} ?\n{above.midi - low.midi}"


KINDS = (copy, read, read, write, lengths, letters, semitones)


def drill(rng: random.Random, high: int) -> str:
    """One drill of any kind, with its answer."""
    return rng.choice(KINDS)(rng, high)
