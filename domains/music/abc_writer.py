"""Notes into ABC that reads back as the same notes: accidentals only where the key and the bar do not give them already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction

from factory.domains.music.keys import Key
from factory.domains.music.meter import Meter, write_length
from factory.domains.music.pitch import ABC_SIGNS, Pitch, to_abc

Event = tuple[tuple[Pitch, ...], Fraction]
"""Pitches of a note or chord (none: a rest), and its length in whole notes."""


def header(key: Key, meter: Meter, unit: Fraction) -> str:
    """The fields that music needs, one a line, in the order of AutoMusicTheoryQA's file."""
    return f"L:{unit.numerator}/{unit.denominator}\nM:{meter.name}\nK:{key.to_abc()}"


def write_bar(events: Sequence[Event], key: Key, unit: Fraction, tied: Collection[int] = ()) -> str:
    """The events of one bar, parted by spaces. Accidentals hold for their letter to the end of the bar, in every octave.

    Args:
        tied: places of the events that are tied to the next one.
    """
    state = dict(key.signature)
    return " ".join(
        _event(pitches, duration, unit, state) + ("-" if place in tied else "")
        for place, (pitches, duration) in enumerate(events)
    )


def _event(pitches: tuple[Pitch, ...], duration: Fraction, unit: Fraction, state: dict[str, int]) -> str:
    length = write_length(duration / unit)
    if not pitches:
        return f"z{length}"
    written = [_note(pitch, state) for pitch in pitches]
    return (written[0] if len(written) == 1 else f"[{''.join(written)}]") + length


def _note(pitch: Pitch, state: dict[str, int]) -> str:
    if state.get(pitch.letter, 0) == pitch.alter:
        return to_abc(pitch, "")
    state[pitch.letter] = pitch.alter
    return to_abc(pitch, ABC_SIGNS[pitch.alter])


def write_tune(
    bars: Iterable[Sequence[Event]],
    key: Key,
    meter: Meter,
    unit: Fraction,
    *,
    end: str = "|]",
    tied: Collection[tuple[int, int]] = (),
) -> str:
    """A whole single-voice tune with its fields. `tied`: (bar, event) of the events that are tied to the next one, from 0."""
    written = [write_bar(bar, key, unit, {event for place, event in tied if place == number}) for number, bar in enumerate(bars)]
    return f"{header(key, meter, unit)}\n{' | '.join(written)} {end}".rstrip()


def plain_notes(pitches: Iterable[Pitch]) -> str:
    """Pitches in `K:C` without a bar, each with its own accidental; a later natural is written out where a letter was altered."""
    state: dict[str, int] = {}
    return " ".join(_note(pitch, state) for pitch in pitches)


def words(pitches: Iterable[Pitch]) -> str:
    """Pitches as words without their octaves, for workings: `fis a cis`."""
    return " ".join(pitch.word for pitch in pitches)


def bare_notes(pitches: Iterable[Pitch]) -> str:
    """Pitches as a list of single ABC notes, each with its own accidental whatever stood before."""
    return " ".join(to_abc(pitch) for pitch in pitches)
