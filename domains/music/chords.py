"""Triads and seventh chords: spelled by stacked thirds, named from any inversion, and their places in a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from factory.domains.music.intervals import Interval, between, transpose
from factory.domains.music.keys import Key, degree_of
from factory.domains.music.pitch import LETTERS, Pitch, PitchError, from_step, parse_pitch

_MAJOR3, _MINOR3, _PERFECT5 = Interval(2, 0), Interval(2, -1), Interval(4, 0)
_DIM5, _AUG5, _MAJOR7, _MINOR7, _DIM7 = Interval(4, -1), Interval(4, 1), Interval(6, 0), Interval(6, -1), Interval(6, -2)
QUALITIES: Mapping[str, tuple[Interval, ...]] = MappingProxyType(
    {
        "major": (_MAJOR3, _PERFECT5),
        "minor": (_MINOR3, _PERFECT5),
        "diminished": (_MINOR3, _DIM5),
        "augmented": (_MAJOR3, _AUG5),
        "major seventh": (_MAJOR3, _PERFECT5, _MAJOR7),
        "dominant seventh": (_MAJOR3, _PERFECT5, _MINOR7),
        "minor seventh": (_MINOR3, _PERFECT5, _MINOR7),
        "half-diminished seventh": (_MINOR3, _DIM5, _MINOR7),
        "diminished seventh": (_MINOR3, _DIM5, _DIM7),
        "minor major seventh": (_MINOR3, _PERFECT5, _MAJOR7),
    }
)
"""Quality -> intervals above the root."""
TRIADS = ("major", "minor", "diminished", "augmented")
SEVENTHS = tuple(name for name in QUALITIES if name not in TRIADS)
SSMR_ROOTS = ("C", "G", "D", "A", "E", "B", "F#", "C#", "F", "Bb", "Eb", "Ab", "Db", "Gb")
"""The fourteen roots of SSMR-Bench (arXiv 2509.04059)."""
INVERSIONS = ("root position", "first inversion", "second inversion", "third inversion")
_SUFFIXES = {
    "": "major", "maj": "major", "major": "major", "M": "major",
    "m": "minor", "min": "minor", "minor": "minor", "-": "minor",
    "dim": "diminished", "diminished": "diminished", "o": "diminished", "°": "diminished",
    "aug": "augmented", "augmented": "augmented", "+": "augmented",
    "maj7": "major seventh", "M7": "major seventh", "major seventh": "major seventh", "major 7th": "major seventh",
    "7": "dominant seventh", "dom7": "dominant seventh", "dominant seventh": "dominant seventh", "dominant 7th": "dominant seventh",
    "m7": "minor seventh", "min7": "minor seventh", "minor seventh": "minor seventh", "minor 7th": "minor seventh",
    "m7b5": "half-diminished seventh", "ø7": "half-diminished seventh", "ø": "half-diminished seventh",
    "half-diminished": "half-diminished seventh", "half diminished seventh": "half-diminished seventh",
    "half-diminished seventh": "half-diminished seventh", "half-diminished 7th": "half-diminished seventh",
    "dim7": "diminished seventh", "o7": "diminished seventh", "°7": "diminished seventh", "diminished seventh": "diminished seventh",
    "diminished 7th": "diminished seventh", "mM7": "minor major seventh", "minor major seventh": "minor major seventh",
}  # fmt: skip
_ROMANS = ("I", "II", "III", "IV", "V", "VI", "VII")
_CHORD = re.compile(r"([A-G])(##|#|x|bb|b|♯|♭)?\s*(.*)")


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord by root (spelled, no octave), quality and inversion (0: root position)."""

    root: str
    quality: str
    inversion: int = 0

    @property
    def name(self) -> str:
        """`Eb minor`, without the inversion."""
        return f"{self.root} {self.quality}"


def stack(root: Pitch, quality: str) -> list[Pitch]:
    """The chord's pitches from the root up, by thirds. Raises PitchError for an unknown quality."""
    if quality not in QUALITIES:
        raise PitchError(f"there is no chord quality {quality!r}; known are {', '.join(QUALITIES)}.")
    return [root, *(transpose(root, interval) for interval in QUALITIES[quality])]


def invert(pitches: Sequence[Pitch], times: int) -> list[Pitch]:
    """Move the lowest pitch above the others, `times` over."""
    found = list(pitches)
    for _ in range(times):
        low = found.pop(0)
        while low.step <= found[-1].step:
            low = from_step(low.step + 7, low.alter)
        found.append(low)
    return found


def identify(pitches: Sequence[Pitch]) -> Chord:
    """Name a chord from its pitches in any order and octave; spelling decides (C-Eb-Gb is a chord, C-D#-F# is none).

    Raises:
        PitchError: the letters do not stack in thirds, or the intervals are those of no known quality.
    """
    if not pitches:
        raise PitchError("no pitches, so no chord.")
    bass = min(pitches, key=lambda pitch: (pitch.step, pitch.midi))
    classes = {(pitch.letter, pitch.alter) for pitch in pitches}
    for letter, alter in sorted(classes):
        root = Pitch(letter, alter, 0)
        members = sorted(((LETTERS.index(name) - LETTERS.index(letter)) % 7, name, other) for name, other in classes)
        if [place for place, _, _ in members] != [0, 2, 4, 6][: len(members)] or len(members) < 3:
            continue
        intervals = tuple(between(root, _above(root, name, other))[0] for _, name, other in members[1:])
        for quality, wanted in QUALITIES.items():
            if intervals == wanted:
                places = [(name, other) for _, name, other in members]
                return Chord(root.spelled, quality, places.index((bass.letter, bass.alter)))
    raise PitchError(f"{' '.join(pitch.spelled for pitch in pitches)} is no chord of stacked thirds that has a name here.")


def _above(root: Pitch, letter: str, alter: int) -> Pitch:
    """The nearest pitch of that letter above the root's staff place."""
    step = root.step + (LETTERS.index(letter) - LETTERS.index(root.letter)) % 7
    return from_step(step, alter)


def parse_chord(text: str) -> Chord:
    """Read `C minor`, `Cm`, `F#dim`, `Bb7`, `Ebmaj7`, `G half-diminished seventh`. Raises PitchError for anything else."""
    hit = _CHORD.fullmatch(" ".join(text.split()))
    if hit is None:
        raise PitchError(f"{text[:40]!r} is no chord name; want a root and a quality, as in 'Eb minor'.")
    said = hit[3].strip().removesuffix(" chord").removesuffix(" triad").strip()
    quality = _SUFFIXES.get(said) or _SUFFIXES.get(said.casefold())
    if quality is None:
        raise PitchError(f"{text[:40]!r}: {hit[3][:30]!r} is no chord quality; known are {', '.join(QUALITIES)}.")
    return Chord(parse_pitch(hit[1] + (hit[2] or ""), octave=4).spelled, quality)


def diatonic(key: Key, degree: int, size: int = 3) -> list[Pitch]:
    """The chord of `size` thirds-stacked notes on a degree (1-7), with the key's accidentals, from octave 4.

    In a minor key the dominant and the seventh degree take the raised leading note when `key.extra` says so, not by themselves.
    """
    signature = key.signature
    first = LETTERS.index(key.tonic[0]) + degree - 1
    steps = [4 * 7 + first + 2 * index for index in range(size)]
    return [from_step(step, signature.get(LETTERS[step % 7], 0)) for step in steps]


def roman(chord: Chord, key: Key) -> str:
    """Roman numeral of a chord in a key: capital for major and augmented, small for minor and diminished, with `o`, `+`, `7`.

    Raises:
        PitchError: the root is no degree of the key.
    """
    degree = degree_of(parse_pitch(chord.root, octave=4), key)
    if degree is None:
        raise PitchError(f"{chord.root} is no degree of {key.name}.")
    numeral = _ROMANS[degree - 1]
    is_small = chord.quality.startswith(("minor", "diminished", "half"))
    mark = {"diminished": "o", "augmented": "+", "half-diminished seventh": "ø7", "diminished seventh": "o7"}.get(
        chord.quality, ""
    )
    if not mark and chord.quality.endswith("seventh"):
        mark = {"major seventh": "maj7", "minor major seventh": "maj7"}.get(chord.quality, "7")
    return (numeral.lower() if is_small else numeral) + mark


def needs_double_accidental(root: str, quality: str) -> bool:
    """Whether a chord on this root cannot be spelled with single sharps and flats."""
    return any(abs(pitch.alter) > 1 for pitch in stack(parse_pitch(root, octave=4), quality))
