"""What can be asked about a score: kinds of questions, each with how its answer is computed from the score and read from a text.

`right_answers(ask)` works the answer out of the ABC alone; nothing that the generator meant is looked up. Kinds whose answer is
music (`COMPOSED`) are judged by rules in `composed.py`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from factory.domains.music import answers as read
from factory.domains.music.abc_reader import AbcError, read_abc
from factory.domains.music.abc_writer import bare_notes
from factory.domains.music.answers import AnswerError, NoteAnswer
from factory.domains.music.chords import INVERSIONS, Chord, identify, parse_chord, roman, stack
from factory.domains.music.forms import form_of
from factory.domains.music.intervals import Interval, between, parse_interval, transpose
from factory.domains.music.keys import Key, scale, signature_of, tonic_of
from factory.domains.music.motifs import RELATIONS, relations
from factory.domains.music.pitch import LETTERS, Pitch, PitchError, from_step, parse_pitch
from factory.domains.music.score import Tune


class AskError(ValueError):
    """The question itself is faulty: its score cannot be read, or has no answer of that kind."""


@lru_cache(maxsize=512)
def _read(score: str) -> Tune:
    return read_abc(score)


@dataclass(frozen=True)
class Ask:
    """A question about a score, complete enough to be answered without the generator."""

    kind: str
    score: str = ""
    """ABC with its fields."""
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_meta(self) -> dict[str, Any]:
        """Plain data for `Sample.meta["ask"]`."""
        return {"kind": self.kind, "score": self.score, "params": dict(self.params)}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Ask:
        """Inverse of `to_meta`. Raises AskError when `meta` holds no question."""
        ask = meta.get("ask")
        if not isinstance(ask, Mapping) or not isinstance(ask.get("kind"), str):
            raise AskError("the sample has no meta['ask'] with kind, score and params")
        return cls(ask["kind"], str(ask.get("score", "")), dict(ask.get("params") or {}))

    def tune(self) -> Tune:
        """The score, read. Raises AskError."""
        try:
            return _read(self.score)
        except AbcError as err:
            raise AskError(f"the question's score cannot be read: {err}") from err


@dataclass(frozen=True)
class Kind:
    """How one kind of question is answered."""

    solve: Callable[[Ask], list[Any]]
    """All right values, computed from the score."""
    parse: Callable[[str], Any]
    """A written answer as a value. Raises AnswerError, PitchError or MeterError."""
    show: Callable[[Any], str] = str
    """A value as text."""
    same: Callable[[Any, Any], bool] = lambda got, want: got == want


def _chord_pitches(ask: Ask) -> list[Pitch]:
    return [pitch for note in ask.tune().notes() for pitch in note.pitches]


def _one(ask: Ask, count: int) -> list[Pitch]:
    found = _chord_pitches(ask)
    if len(found) != count:
        raise AskError(f"the score has {len(found)} notes, the question is about {count}")
    return found


# --- intervals and notes ------------------------------------------------------------------------------------------------


def _interval(ask: Ask) -> list[Interval]:
    first, second = _one(ask, 2)
    return [between(first, second)[0]]


def _note_at(ask: Ask) -> list[NoteAnswer]:
    [first] = _one(ask, 1)
    interval = parse_interval(str(ask.params["interval"]))
    ways = {"up": (1,), "down": (-1,), "either": (1, -1)}[str(ask.params.get("direction", "up"))]
    found = [transpose(first, interval, way) for way in ways]
    return [NoteAnswer(pitch.letter, pitch.alter, pitch.octave) for pitch in found]


def _same_note(got: NoteAnswer, want: NoteAnswer) -> bool:
    same_class = (got.letter, got.alter) == (want.letter, want.alter)
    return same_class and (got.octave is None or want.octave is None or got.octave == want.octave)


def _same_sound(got: NoteAnswer, want: NoteAnswer) -> bool:
    """Equality by sound, for the level `enharmonic`."""
    distance = Pitch(got.letter, got.alter, 4).midi - Pitch(want.letter, want.alter, 4).midi
    return distance % 12 == 0


def _show_note(note: NoteAnswer) -> str:
    return Pitch(note.letter, note.alter, 4).spelled + ("" if note.octave is None else str(note.octave))


def _pitch(ask: Ask) -> list[NoteAnswer]:
    """The sounding pitch of one note of a tune, key signature and accidentals of the bar worked in."""
    pitch = _noted(ask, int(ask.params.get("note", 1)))
    return [NoteAnswer(pitch.letter, pitch.alter, None)]


def _noted(ask: Ask, number: int) -> Pitch:
    bars, bar = ask.tune().bars, int(ask.params.get("bar", 1))
    if not 1 <= bar <= len(bars) or not 1 <= number <= len(bars[bar - 1].sounded):
        raise AskError(f"the score has no note {number} in bar {bar}")
    return max(bars[bar - 1].sounded[number - 1].pitches)


def _step(ask: Ask) -> list[Interval]:
    """The interval from one note of a bar to the next."""
    number = int(ask.params.get("note", 1))
    return [between(_noted(ask, number), _noted(ask, number + 1))[0]]


def _range(ask: Ask) -> list[Interval]:
    """From the lowest to the highest note of a tune, grace notes left out."""
    pitches = [pitch for note in ask.tune().notes() if not note.is_grace for pitch in note.pitches]
    if not pitches:
        raise AskError("the score has no note")
    low = min(pitches, key=lambda pitch: (pitch.midi, pitch.step))
    high = max(pitches, key=lambda pitch: (pitch.midi, -pitch.step))
    return [between(low, high)[0]]


# --- chords -------------------------------------------------------------------------------------------------------------


def _identified(ask: Ask) -> Chord:
    try:
        return identify(_chord_pitches(ask))
    except PitchError as err:
        raise AskError(str(err)) from err


def _chord(ask: Ask) -> list[Chord]:
    found = _identified(ask)
    return [Chord(found.root, found.quality)]


def _root(ask: Ask) -> list[NoteAnswer]:
    root = parse_pitch(_identified(ask).root, octave=4)
    return [NoteAnswer(root.letter, root.alter, None)]


def _missing(ask: Ask) -> list[NoteAnswer]:
    """The note that completes the named triad."""
    wanted = parse_chord(str(ask.params["chord"]))
    members = stack(parse_pitch(wanted.root, octave=4), wanted.quality)
    there = {(pitch.letter, pitch.alter) for pitch in _chord_pitches(ask)}
    left = [pitch for pitch in members if (pitch.letter, pitch.alter) not in there]
    if len(left) != 1 or len(there) != len(members) - 1:
        raise AskError(f"the score lacks {len(left)} notes of {wanted.name}, the question is about one")
    return [NoteAnswer(left[0].letter, left[0].alter, None)]


def _parse_missing(text: str) -> NoteAnswer | Chord:
    """A note, or the whole chord in ABC brackets."""
    said = read.clean(text)
    if not said.startswith("["):
        return read.read_note(said)
    notes = [note for note in read.read_notes(said).notes() if not note.is_grace]
    if len(notes) != 1:
        raise AnswerError("want one chord in brackets")
    return identify(notes[0].pitches)


def _same_missing(got: NoteAnswer | Chord, want: NoteAnswer) -> bool:
    return isinstance(got, NoteAnswer) and _same_note(got, want)


def _inversion(ask: Ask) -> list[str]:
    return [INVERSIONS[_identified(ask).inversion]]


def _function(ask: Ask) -> list[str]:
    try:
        return [roman(_identified(ask), ask.tune().key)]
    except PitchError as err:
        raise AskError(str(err)) from err


def _parse_roman(text: str) -> str:
    said = read.clean(text).replace("°", "o")
    if not said or any(character not in "IViv7oø+maj" for character in said):
        raise AnswerError(f"{text[:20]!r} is no Roman numeral")
    return said


# --- scales and keys ----------------------------------------------------------------------------------------------------


def _scale(ask: Ask) -> list[tuple[str, str]]:
    """The scale of a set of notes whose tonic is the first one."""
    pitches = _chord_pitches(ask)
    if not pitches:
        raise AskError("the score has no note")
    tonic, there = pitches[0], {(pitch.letter, pitch.alter) for pitch in pitches}
    found = []
    for kind in ("major", "minor", "harmonic minor", "melodic minor", "dorian", "phrygian", "lydian", "mixolydian", "locrian"):
        if {(pitch.letter, pitch.alter) for pitch in scale(tonic, kind)} == there:
            found.append((tonic.spelled, kind))
    if not found:
        raise AskError("the notes are no scale on the first of them")
    return found


def _spelled_scale(ask: Ask) -> list[tuple[tuple[str, int], ...]]:
    tonic = parse_pitch(str(ask.params["tonic"]), octave=4)
    notes = [(pitch.letter, pitch.alter) for pitch in scale(tonic, str(ask.params["scale"]))]
    return [tuple(notes[::-1] if ask.params.get("direction") == "down" else notes)]


def _parse_scale_notes(text: str) -> tuple[tuple[str, int], ...]:
    pitches = read.pitches_of(read.read_notes(text))
    steps = [b.step - a.step for a, b in itertools.pairwise(pitches)]
    if len(pitches) not in (7, 8) or not (all(step == 1 for step in steps) or all(step == -1 for step in steps)):
        raise AnswerError("want seven or eight notes on neighbouring places of the staff")
    return tuple((pitch.letter, pitch.alter) for pitch in pitches)


def _same_scale(got: tuple[tuple[str, int], ...], want: tuple[tuple[str, int], ...]) -> bool:
    return got == want or got == want[:-1]


def _key(ask: Ask) -> list[tuple[str, str]]:
    """The key with the score's signature in the asked mode."""
    mode = str(ask.params.get("mode", "major"))
    return [(tonic_of(_signature(ask.tune().key), mode), mode)]


def _signature(key: Key) -> int:
    """Fifths of a signature; one written out as accidentals counts as the same. Raises AskError for an irregular one."""
    altered = {letter: alter for letter, alter in key.signature.items() if alter}
    for fifths in range(-7, 8):
        if signature_of(fifths) == altered:
            return fifths
    raise AskError("the key signature is that of no major or minor key")


def _tune_key(ask: Ask) -> list[tuple[str, str]]:
    """The key that a tune states: its `K:` field."""
    key = ask.tune().key
    if not key.tonic or key.extra:
        raise AskError("the tune states no key")
    return [(key.tonic, {"ionian": "major", "aeolian": "minor"}.get(key.mode, key.mode))]


# --- metre, form, motifs ------------------------------------------------------------------------------------------------


def _meter(ask: Ask) -> list[Fraction]:
    """The length that most bars have; every signature of this length is right."""
    counts = Counter(bar.length for bar in ask.tune().bars)
    best = max(counts.values())
    found = [length for length, count in counts.items() if count == best]
    if len(found) != 1:
        raise AskError("no bar length prevails")
    return found


def _bar_count(ask: Ask) -> list[int]:
    return [len(ask.tune().bars)]


def _form(ask: Ask) -> list[str]:
    return [form_of(ask.tune())]


def _parse_form(text: str) -> str:
    said = "".join(read.clean(text).split()).upper()
    if not said.isalpha() or len(said) > 40:
        raise AnswerError(f"{text[:20]!r} is no form; want letters such as AABB")
    return said


def _motif(ask: Ask) -> list[str]:
    bars = ask.tune().bars
    if len(bars) != 2:
        raise AskError(f"the score has {len(bars)} bars; a motif and its change need two")
    found = relations(bars[0].sounded, bars[1].sounded)
    if len(found) != 1:
        raise AskError(f"the second motif is {' and '.join(found) or 'no'} change of the first")
    return found


def _show_key(value: tuple[str, str]) -> str:
    return f"{value[0]} {value[1]}"


def _show_scale(value: tuple[tuple[str, int], ...]) -> str:
    """Rising or falling from octave 4, in ABC."""
    first = LETTERS.index(value[0][0])
    way = 1 if (LETTERS.index(value[1][0]) - first) % 7 == 1 else -1
    start = 28 + first + (0 if way == 1 else 7)
    return bare_notes(from_step(start + way * index, alter) for index, (_, alter) in enumerate(value))


def _show_meter(length: Fraction) -> str:
    return f"{length * 8}/8" if (length * 8).denominator == 1 and (length * 4).denominator != 1 else f"{length * 4}/4"


_NOTE = {"parse": read.read_note, "show": _show_note, "same": _same_note}
KINDS: Mapping[str, Kind] = {
    "interval": Kind(_interval, lambda text: parse_interval(read.clean(text)), lambda value: value.name),
    "note": Kind(_note_at, **_NOTE),
    "pitch": Kind(_pitch, **_NOTE),
    "step": Kind(_step, lambda text: parse_interval(read.clean(text)), lambda value: value.name),
    "range": Kind(_range, lambda text: parse_interval(read.clean(text)), lambda value: value.name),
    "chord": Kind(_chord, lambda text: parse_chord(read.clean(text)), lambda value: value.name),
    "root": Kind(_root, **_NOTE),
    "missing": Kind(_missing, _parse_missing, _show_note, _same_missing),
    "inversion": Kind(_inversion, lambda text: read.read_word(text, INVERSIONS)),
    "function": Kind(_function, _parse_roman),
    "scale": Kind(_scale, read.read_key, _show_key),
    "spelled_scale": Kind(_spelled_scale, _parse_scale_notes, _show_scale, _same_scale),
    "key": Kind(_key, read.read_key, _show_key),
    "tune_key": Kind(_tune_key, read.read_key, _show_key),
    "meter": Kind(_meter, read.read_fraction, _show_meter),
    "bar_count": Kind(_bar_count, read.read_number),
    "form": Kind(_form, _parse_form),
    "motif": Kind(_motif, lambda text: read.read_word(text, RELATIONS)),
}
"""Questions with one value as answer."""


def right_answers(ask: Ask) -> list[str]:
    """The right answers as texts, computed from the score. Raises AskError for a faulty question."""
    kind = KINDS[ask.kind]
    return [kind.show(value) for value in kind.solve(ask)]


def is_right(ask: Ask, text: str, *, level: str = "spelled") -> bool:
    """Whether a written answer is right.

    Args:
        level: `spelled`, or `enharmonic` where C# counts for Db (notes only).

    Raises:
        AskError: the question is faulty.
        AnswerError: the text cannot be read as an answer of this kind.
    """
    kind = KINDS[ask.kind]
    wanted = kind.solve(ask)
    try:
        got = kind.parse(text)
    except AnswerError:
        raise
    except (PitchError, AbcError, KeyError) as err:
        raise AnswerError(str(err)) from err
    if isinstance(got, Chord) and ask.kind == "missing":
        named = parse_chord(str(ask.params["chord"]))
        return (got.root, got.quality) == (named.root, named.quality)
    same = _same_sound if level == "enharmonic" and isinstance(got, NoteAnswer) else kind.same
    return any(same(got, want) for want in wanted)
