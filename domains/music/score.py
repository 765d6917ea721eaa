"""A tune as bars of notes, as `abc_reader` reads it. Times are in whole notes, exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from factory.domains.music.keys import NO_KEY, Key
from factory.domains.music.meter import FREE, Meter
from factory.domains.music.pitch import Pitch


@dataclass(frozen=True, slots=True)
class Note:
    """A note, a chord (several pitches), a rest (no pitch) or a grace note (no duration)."""

    pitches: tuple[Pitch, ...]
    """As they sound: key signature, accidentals of the bar and ties are worked in."""
    duration: Fraction
    """Sounding length, tuplets and broken rhythm worked in; 0 for a grace note."""
    written: Fraction
    """Length of the sign on paper: without the tuplet's factor. For a grace note the written one too."""
    onset: Fraction
    """From the start of the tune, bars in written order (repeats not unfolded)."""
    is_grace: bool = False
    is_tied: bool = False
    """Tied to the next note of the same pitch."""
    tuplet: tuple[int, int] | None = None
    """(3, 2): three in the time of two."""
    layer: int = 0
    """0, or 1, 2 ... behind an overlay sign `&`."""
    symbol: str | None = None
    """Chord symbol above the note."""
    printed: tuple[bool, ...] = ()
    """For each pitch, whether its accidental is written at this note."""

    @property
    def is_rest(self) -> bool:
        """Whether nothing sounds."""
        return not self.pitches


@dataclass(frozen=True, slots=True)
class Bar:
    """What stands between two bar lines."""

    notes: tuple[Note, ...]
    meter: Meter
    key: Key
    unit: Fraction
    """`L:` in force."""
    opens: str = ""
    """The bar line in front of it, as written; empty at the start of a tune without one."""
    closes: str = ""
    ending: str = ""
    """`1`, `2`, `1,3`: the alternative ending that begins here."""

    @property
    def length(self) -> Fraction:
        """Sounding length of the main layer."""
        return sum((note.duration for note in self.notes if note.layer == 0), Fraction(0))

    @property
    def is_full(self) -> bool | None:
        """Whether it has exactly the length of its metre; None in free metre."""
        return None if self.meter.length is None else self.length == self.meter.length

    @property
    def sounded(self) -> tuple[Note, ...]:
        """Notes and chords of the main layer, without rests and grace notes."""
        return tuple(note for note in self.notes if note.pitches and not note.is_grace and note.layer == 0)


@dataclass(frozen=True, slots=True)
class Tune:
    """One tune: its fields in order, and the bars of each voice."""

    fields: tuple[tuple[str, str], ...]
    voices: dict[str, tuple[Bar, ...]]
    key: Key = NO_KEY
    meter: Meter = FREE
    unit: Fraction = Fraction(1, 8)
    notices: tuple[str, ...] = field(default=())
    """What was read in spite of a doubt: a tie into nothing, a tuplet cut short."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        """Bars of the first voice."""
        return next(iter(self.voices.values()), ())

    def notes(self) -> Iterator[Note]:
        """Notes of the first voice, rests and grace notes included."""
        for bar in self.bars:
            yield from bar.notes

    def melody(self) -> list[Pitch]:
        """Top pitch of each note of the first voice's main layer; grace notes and rests left out."""
        return [max(note.pitches, key=lambda pitch: pitch.midi) for bar in self.bars for note in bar.sounded]

    def sounding(self) -> list[tuple[int, Fraction, Fraction]]:
        """(MIDI pitch, onset, duration) of what is heard, ties joined, grace notes left out, in order of onset and pitch."""
        found: list[tuple[int, Fraction, Fraction]] = []
        held: dict[int, int] = {}
        for note in self.notes():
            if note.is_grace:
                continue
            for pitch in note.pitches:
                index = held.pop(pitch.midi, None)
                if index is not None and sum(found[index][1:], Fraction(0)) == note.onset:
                    found[index] = (pitch.midi, found[index][1], found[index][2] + note.duration)
                else:
                    found.append((pitch.midi, note.onset, note.duration))
                    index = len(found) - 1
                if note.is_tied:
                    held[pitch.midi] = index
        return sorted(found, key=lambda row: (row[1], row[0]))
