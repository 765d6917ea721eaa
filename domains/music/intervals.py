"""Intervals between spelled pitches: a number from the letters, a quality from the semitones, and a direction.

C4-Eb4 is a minor third and C4-D#4 an augmented second, though they sound the same: letters decide the number.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from factory.domains.music.pitch import SEMITONES, Pitch, PitchError, from_step

NUMBERS = (
    "unison", "second", "third", "fourth", "fifth", "sixth", "seventh", "octave",
    "ninth", "tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth",
)  # fmt: skip
_SCALE = (0, 2, 4, 5, 7, 9, 11)
"""Semitones of the perfect and major intervals within an octave."""
_PERFECT = frozenset({0, 3, 4})
"""Steps (number - 1, within an octave) of unison, fourth and fifth."""
_SHIFTS = {"diminished": -1, "minor": -1, "perfect": 0, "major": 0, "augmented": 1}
_SHORT = {"P": "perfect", "M": "major", "m": "minor", "A": "augmented", "d": "diminished"}
_WORDS = {
    "perf": "perfect", "maj": "major", "min": "minor", "aug": "augmented", "dim": "diminished",
    "1st": "unison", "prime": "unison", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth", "6th": "sixth", "7th": "seventh",
    "8th": "octave", "8ve": "octave", "9th": "ninth", "10th": "tenth", "11th": "eleventh", "12th": "twelfth", "13th": "thirteenth",
    "14th": "fourteenth", "15th": "fifteenth",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interval:
    """A named size. `steps` is the number less one; `shift` is semitones from the perfect or major interval of that number."""

    steps: int
    shift: int

    @property
    def is_perfect_kind(self) -> bool:
        """Unisons, fourths, fifths and octaves have no major and minor."""
        return self.steps % 7 in _PERFECT

    @property
    def semitones(self) -> int:
        """Size in semitones, from the lower place on the staff up; negative for a doubly diminished second."""
        return 12 * (self.steps // 7) + _SCALE[self.steps % 7] + self.shift

    @property
    def quality(self) -> str:
        """`perfect`, `major`, `minor`, `augmented`, `diminished`, `doubly augmented` ..."""
        if self.shift == 0:
            return "perfect" if self.is_perfect_kind else "major"
        if self.shift > 0:
            return _multiple(self.shift) + "augmented"
        deficit = -self.shift if self.is_perfect_kind else -self.shift - 1
        return "minor" if deficit == 0 else _multiple(deficit) + "diminished"

    @property
    def number(self) -> str:
        """`third`; a size above a fifteenth is written `16th`."""
        return NUMBERS[self.steps] if self.steps < len(NUMBERS) else f"{self.steps + 1}th"

    @property
    def name(self) -> str:
        """`minor third`."""
        return f"{self.quality} {self.number}"


def _multiple(count: int) -> str:
    return {1: "", 2: "doubly ", 3: "triply "}.get(count, f"{count}-fold ")


def between(first: Pitch, second: Pitch) -> tuple[Interval, int]:
    """The interval from one pitch to another, and its direction: 1 up, -1 down, 0 for a perfect unison.

    The direction follows the staff; on one staff place it follows the sound (Cb-C is an augmented unison up).
    """
    steps, semitones = second.step - first.step, second.midi - first.midi
    direction = 1 if steps > 0 or (steps == 0 and semitones > 0) else -1 if (steps, semitones) != (0, 0) else 0
    steps, semitones = (steps, semitones) if direction >= 0 else (-steps, -semitones)
    return Interval(steps, semitones - 12 * (steps // 7) - _SCALE[steps % 7]), direction


def transpose(pitch: Pitch, interval: Interval, direction: int = 1) -> Pitch:
    """The pitch at an interval above (`direction` 1) or below (-1). Spelling is exact, so the result may need three accidentals."""
    plain = from_step(pitch.step + direction * interval.steps)
    return from_step(plain.step, pitch.midi + direction * interval.semitones - plain.midi)


def parse_interval(text: str) -> Interval:
    """Read `minor third`, `m3`, `P5`, `aug 4th`, `octave` (perfect) or `tritone`-free names; words in any case.

    Raises:
        PitchError: no such interval, also a perfect third or a major fifth.
    """
    words = [_WORDS.get(word, word) for word in re.findall(r"[^\W_]+", text.lower())]
    short = re.fullmatch(r"([PMmAd]{1,3})\s?(\d{1,2})", text.strip())
    if short and len(set(short[1])) == 1 and int(short[2]) > 0:
        quality, steps, times = _SHORT[short[1][0]], int(short[2]) - 1, len(short[1])
    else:
        times = {"doubly": 2, "double": 2, "triply": 3}.get(words[0], 1) if words else 1
        words = words[1:] if times > 1 else words
        if len(words) == 1 and words[0] in ("unison", "octave", "fifteenth"):
            words = ["perfect", *words]
        size = _number(words[1]) if len(words) == 2 else None
        if size is None or words[0] not in _SHIFTS:
            raise PitchError(f"{text[:40]!r} is no interval; want a quality and a number, as in 'minor third'.")
        quality, steps = words[0], size
    is_perfect_kind = steps % 7 in _PERFECT
    named = Interval(steps, 0).number
    if (quality == "perfect") != is_perfect_kind and quality in ("perfect", "major", "minor"):
        raise PitchError(f"there is no {quality} {named}.")
    if times > 1 and quality not in ("augmented", "diminished"):
        raise PitchError(f"{text[:40]!r}: only augmented and diminished intervals are doubled.")
    if quality == "diminished":
        return Interval(steps, -times if is_perfect_kind else -times - 1)
    return Interval(steps, _SHIFTS[quality] * times)


def _number(word: str) -> int | None:
    """Steps of `third` or, above a fifteenth, `17th`; None for another word."""
    if word in NUMBERS:
        return NUMBERS.index(word)
    hit = re.fullmatch(r"(\d{2})(?:st|nd|rd|th)", word)
    return int(hit[1]) - 1 if hit and int(hit[1]) > len(NUMBERS) else None


def letters_between(first: Pitch, second: Pitch) -> list[str]:
    """Letters passed from one pitch to the other, both included, along the staff: the count is the interval's number."""
    way = 1 if second.step >= first.step else -1
    return [from_step(step).letter for step in range(first.step, second.step + way, way)]


def natural_semitones(letters: list[str]) -> int:
    """Semitones spanned by a row of rising letters without accidentals."""
    return sum((SEMITONES[b] - SEMITONES[a]) % 12 for a, b in itertools.pairwise(letters))
