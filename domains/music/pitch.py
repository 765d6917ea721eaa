"""Spelled pitches: letter, alteration and octave, as names (`F#4`), as MIDI numbers and as ABC notes (`^F`).

Octave 4 begins at middle C (MIDI 60). In ABC `C` is middle C and `c` the octave above it (ABC standard 2.1, section 4.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from factory.errors import DataError

LETTERS = "CDEFGAB"
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
"""Letter -> semitones above C."""
SHARP_ORDER = "FCGDAEB"
"""Letters in the order in which a key signature sharpens them; flats come in the reverse order."""
MAX_ALTER = 2
"""Notation has signs for up to two sharps or flats."""
ABC_SIGNS = {2: "^^", 1: "^", 0: "=", -1: "_", -2: "__"}
_ABC_ALTERS = {sign: alter for alter, sign in ABC_SIGNS.items()}
_NAME_ALTERS = {"##": 2, "x": 2, "#": 1, "": 0, "b": -1, "bb": -2}
_ABC_NOTE = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)")
_NAME = re.compile(r"([A-Ga-g])(##|#|x|bb|b)?(-?\d{1,2})?")
_SYMBOLS = str.maketrans({"♯": "#", "♭": "b", "𝄪": "x", "𝄫": "bb", "♮": ""})


class PitchError(DataError, ValueError):
    """A text that names no pitch, or a pitch that cannot be written."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Pitch:
    """One spelled pitch. Ordered by sound first, then by spelling."""

    letter: str
    alter: int
    """Semitones up (sharps) or down (flats)."""
    octave: int

    @property
    def step(self) -> int:
        """Place on the staff: diatonic steps above C0."""
        return 7 * self.octave + LETTERS.index(self.letter)

    @property
    def midi(self) -> int:
        """MIDI key number; C4 is 60. May leave 0-127 for extreme octaves."""
        return 12 * (self.octave + 1) + SEMITONES[self.letter] + self.alter

    @property
    def spelled(self) -> str:
        """Letter and accidental without the octave: `F#`, `Bbb`."""
        return self.letter + accidental(self.alter)

    @property
    def name(self) -> str:
        """Scientific name: `F#4`."""
        return f"{self.spelled}{self.octave}"

    @property
    def word(self) -> str:
        """The spelled name in one word, as LilyPond writes it: `fis`, `bes`, `aeses`. A small model reads it as one token."""
        return self.letter.lower() + ("is" * self.alter if self.alter >= 0 else "es" * -self.alter)

    def __lt__(self, other: Pitch) -> bool:
        return (self.midi, self.step) < (other.midi, other.step)


def accidental(alter: int) -> str:
    """`#`, `b`, `##`, `bb` or nothing; more than two for theoretical pitches."""
    return "#" * alter if alter >= 0 else "b" * -alter


def from_step(step: int, alter: int = 0) -> Pitch:
    """The pitch on a staff place."""
    return Pitch(LETTERS[step % 7], alter, step // 7)


def parse_pitch(text: str, octave: int | None = None) -> Pitch:
    """Read a name such as `F#4`, `Bb3`, `Gbb` or `C♯5`. Capital and small letters mean the same.

    Args:
        octave: octave of a name without one; None makes a missing octave an error.

    Raises:
        PitchError: no such name.
    """
    hit = _NAME.fullmatch(text.strip().translate(_SYMBOLS))
    if hit is None or (hit[3] is None and octave is None):
        wanted = "a name like F#4 or Bb3" if octave is None else "a name like F#, Bb or Gbb"
        raise PitchError(f"{text[:20]!r} is no pitch; want {wanted}.")
    return Pitch(hit[1].upper(), _NAME_ALTERS[hit[2] or ""], int(hit[3]) if hit[3] is not None else int(octave or 0))


def abc_octave(octave: int) -> tuple[bool, str]:
    """Whether the letter is small, and the marks behind it: octave 4 `C`, 5 `c`, 6 `c'`, 3 `C,`."""
    return (True, "'" * (octave - 5)) if octave >= 5 else (False, "," * (4 - octave))


def to_abc(pitch: Pitch, sign: str | None = None) -> str:
    """The note in ABC without a length. Its accidental is written out unless the note is natural (`sign` overrides it).

    Raises:
        PitchError: more than two sharps or flats, for which there is no sign.
    """
    if abs(pitch.alter) > MAX_ALTER:
        raise PitchError(f"{pitch.spelled} needs {abs(pitch.alter)} accidentals; notation has signs for two.")
    is_small, marks = abc_octave(pitch.octave)
    if sign is None:
        sign = "" if pitch.alter == 0 else ABC_SIGNS[pitch.alter]
    return sign + (pitch.letter.lower() if is_small else pitch.letter) + marks


def parse_abc_note(text: str) -> Pitch:
    """Read one ABC note without length, with its own accidental only (`^F`, `_e'`, `B,,`).

    Raises:
        PitchError: anything else, also `F^`: in ABC the accidental precedes the letter.
    """
    hit = _ABC_NOTE.fullmatch(text.strip())
    if hit is None:
        raise PitchError(f"{text[:20]!r} is no ABC note; the accidental precedes the letter, as in ^F or _e'.")
    return Pitch(hit[2].upper(), _ABC_ALTERS.get(hit[1] or "=", 0), note_octave(hit[2], hit[3]))


def note_octave(letter: str, marks: str) -> int:
    """Octave of an ABC letter with its marks; `'` raises and `,` lowers, in any order."""
    return (5 if letter.islower() else 4) + marks.count("'") - marks.count(",")
