"""Written answers as values: notes, keys, scales, chords, metres, and lines of ABC. Each reader takes the whole text or raises.

Case counts in ABC (`c` is an octave above `C`), so nothing here folds case where notes are meant. Only ASCII and the signs of
accidentals are read: look-alike letters name nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from factory.domains.music.abc_reader import AbcError, read_abc
from factory.domains.music.keys import MODES, PATTERNS
from factory.domains.music.pitch import Pitch, PitchError, parse_abc_note, parse_pitch
from factory.domains.music.score import Tune
from factory.errors import DataError

MAX_ANSWER = 4000
_KEY = re.compile(r"([A-G])(#|b|♯|♭|-flat|-sharp)?\s*([A-Za-z ]*)")
_FOREIGN = re.compile(r"[^\x00-\x7f♯♭♮𝄪𝄫°ø–]")
_NOTATION = re.compile(r"[A-Ga-gzxZ0-9/^_=,'|\[\](){}:<>.\-\s]+")
"""Signs of a line of notes. The decoration letters of ABC are left out: with them, prose would read as music."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class AnswerError(DataError, ValueError):
    """An answer that cannot be read as what was asked for."""


@dataclass(frozen=True, slots=True)
class NoteAnswer:
    """A note with or without its octave."""

    letter: str
    alter: int
    octave: int | None


def clean(text: str) -> str:
    """The answer without outer white space, quotes and a final full stop. Raises AnswerError for other scripts, controls, and essays."""
    if len(text) > MAX_ANSWER:
        raise AnswerError(f"the answer has {len(text)} characters, more than {MAX_ANSWER}")
    if _FOREIGN.search(text) or _CONTROL.search(text):
        raise AnswerError("the answer holds characters that notation does not use")
    found = text.strip().strip("`*$ ")
    if len(found) > 1 and found[0] == found[-1] and found[0] in "\"'":
        found = found[1:-1]
    found = found.strip().rstrip(".").strip()
    if not found:
        raise AnswerError("the answer is empty")
    return found


def read_note(text: str) -> NoteAnswer:
    """`_E`, `^f'` (ABC, with octave), `Eb`, `F sharp` (without) or `Eb4`. A bare capital letter leaves the octave open."""
    said = re.sub(r"[ -]?(sharp|flat)$", lambda hit: "#" if hit[1] == "sharp" else "b", clean(text))
    if re.fullmatch(r"[A-G]", said):
        return NoteAnswer(said, 0, None)
    try:
        pitch = parse_abc_note(said)
    except PitchError:
        pass
    else:
        return NoteAnswer(pitch.letter, pitch.alter, pitch.octave)
    if not said[:1].isupper():
        raise AnswerError(f"{text[:20]!r} is no note; want ABC such as _E, or a name such as Eb")
    try:
        pitch = parse_pitch(said, octave=99)
    except PitchError as err:
        raise AnswerError(str(err)) from err
    return NoteAnswer(pitch.letter, pitch.alter, None if pitch.octave == 99 else pitch.octave)


def read_key(text: str) -> tuple[str, str]:
    """(tonic, scale) of `G major`, `F# minor`, `Gm`, `D dorian`, `E harmonic minor`, `Bb`."""
    said = re.sub(r"\s+(scale|key)$", "", clean(text), flags=re.IGNORECASE)
    hit = _KEY.fullmatch(said)
    if hit is None:
        raise AnswerError(f"{text[:30]!r} is no key; want a tonic and a mode, as in F# minor")
    sign = {"♯": "#", "♭": "b", "-sharp": "#", "-flat": "b"}.get(hit[2] or "", hit[2] or "")
    word = hit[3].strip()
    mode = {"": "major", "m": "minor", "M": "major", "maj": "major", "min": "minor", "natural minor": "minor", "ionian": "major",
            "aeolian": "minor"}.get(word, word.casefold())  # fmt: skip
    if mode not in PATTERNS and mode not in MODES:
        raise AnswerError(f"{text[:30]!r}: {word!r} is no mode")
    return hit[1] + sign, mode


def read_number(text: str) -> int:
    """A whole number in digits."""
    said = clean(text)
    if not re.fullmatch(r"-?\d{1,6}", said):
        raise AnswerError(f"{text[:20]!r} is no whole number")
    return int(said)


def read_fraction(text: str) -> Fraction:
    """Length of a bar of the answered metre: `6/8` is 3/4."""
    said = clean(text)
    if said in ("C", "C|"):
        return Fraction(1)
    hit = re.fullmatch(r"(\d{1,2})\s?/\s?(\d{1,2})", said)
    if hit is None or int(hit[1]) == 0 or int(hit[2]) not in (1, 2, 4, 8, 16, 32):
        raise AnswerError(f"{text[:20]!r} is no time signature; want one such as 6/8")
    return Fraction(int(hit[1]), int(hit[2]))


def read_word(text: str, allowed: tuple[str, ...]) -> str:
    """One of a closed list of words, in any case."""
    said = " ".join(clean(text).casefold().split())
    if said not in allowed:
        raise AnswerError(f"{text[:30]!r} is none of {', '.join(allowed)}")
    return said


def read_notes(text: str, head: str = "") -> Tune:
    """A line of ABC under the fields `head`. Fields inside the answer are refused: they could change what the notes mean."""
    said = clean(text)
    if re.search(r"(?m)^\s*[A-Za-z]:|\[[A-Za-z]:|%|&", said):
        raise AnswerError("the answer holds fields, comments or overlays; want notes only")
    if not _NOTATION.fullmatch(said):
        raise AnswerError("the answer holds signs that are no notes")
    try:
        return read_abc(f"{head}\n{said}" if head else f"L:1/8\nM:none\nK:C\n{said}")
    except AbcError as err:
        raise AnswerError(f"not well-formed ABC: {err}") from err


def pitches_of(tune: Tune) -> list[Pitch]:
    """Single notes of a line, in order. Raises AnswerError for chords, rests and grace notes."""
    found = []
    for note in tune.notes():
        if len(note.pitches) != 1 or note.is_grace:
            raise AnswerError("want single notes, without chords, rests and grace notes")
        found.append(note.pitches[0])
    return found
