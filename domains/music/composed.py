"""Answers that are music, judged by rules against the score: transposition, bars set right, continuation, harmonisation.

Everything is recomputed from the question's ABC. A right answer keeps every rule and scores 1; what is read and keeps some scores at
most PARTIAL, so that half a rule book never pays like an answer. Copying the score keeps none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from factory.domains.music import rules
from factory.domains.music.abc_reader import AbcError
from factory.domains.music.abc_writer import header
from factory.domains.music.answers import AnswerError, pitches_of, read_notes
from factory.domains.music.asks import Ask, AskError
from factory.domains.music.chords import identify
from factory.domains.music.intervals import parse_interval, transpose
from factory.domains.music.keys import Key, degree_of, parse_key_field
from factory.domains.music.meter import Meter, parse_meter
from factory.domains.music.pitch import Pitch, PitchError, parse_abc_note
from factory.domains.music.rules import Rule
from factory.domains.music.score import Bar, Tune

PARTIAL = 0.4
"""Most that an answer earns which breaks a rule."""


@dataclass(frozen=True)
class Judged:
    """What the rules say."""

    rules: tuple[Rule, ...]
    is_void: str = ""
    """Why the answer counts nothing, whatever rules it keeps: the score copied, other notes than asked."""

    @property
    def score(self) -> float:
        """1 when all rules are kept, else PARTIAL times their mean share; 0 when void."""
        if self.is_void:
            return 0.0
        if all(rule.is_kept for rule in self.rules):
            return 1.0
        return PARTIAL * sum(rule.share for rule in self.rules) / len(self.rules)

    @property
    def reason(self) -> str:
        """What was broken first."""
        broken = [f"{rule.name}: {rule.fault}" for rule in self.rules if not rule.is_kept]
        return self.is_void or "; ".join(broken[:3]) or f"all {len(self.rules)} rules kept"


def _head(tune: Tune, meter: Meter | None = None, key: Key | None = None) -> str:
    return header(key or tune.key, meter or tune.meter, tune.unit)


def _rhythm(tune: Tune) -> list[Fraction]:
    return [note.duration for note in tune.notes() if not note.is_grace]


def _same_share(got: Sequence[object], want: Sequence[object]) -> float:
    return sum(a == b for a, b in zip(got, want, strict=False)) / max(len(want), len(got), 1)


def _shared(name: str, got: Sequence[object], want: Sequence[object], fault: str) -> Rule:
    share = _same_share(got, want)
    return Rule(name, share, "" if share == 1.0 else fault)


# --- exact tasks --------------------------------------------------------------------------------------------------------


def transposed(ask: Ask, text: str) -> Judged:
    """Every note moved by the interval, spelling and lengths kept. The share of right notes counts for little, a copy for nothing."""
    tune = ask.tune()
    interval = parse_interval(str(ask.params["interval"]))
    way = -1 if ask.params.get("direction") == "down" else 1
    given = pitches_of(tune)
    want = [transpose(pitch, interval, way) for pitch in given]
    target = str(ask.params.get("to_key", ""))
    head = _head(tune) if not target else header(parse_key_field(target), tune.meter, tune.unit)
    answer = read_notes(text, head)
    got = pitches_of(answer)
    if got == given:
        return Judged((), "the score is copied")
    if len(got) != len(want):
        return Judged((), f"{len(got)} notes, the score has {len(want)}")
    return Judged(
        (
            _shared("pitches", got, want, "a note is not where the interval puts it"),
            _shared("lengths", _rhythm(answer), _rhythm(tune), "a length is changed"),
        )
    )


def barred(ask: Ask, text: str) -> Judged:
    """The score's own notes, with bar lines so that every bar is full (the last may be short)."""
    tune = ask.tune()
    meter = parse_meter(str(ask.params["meter"]))
    answer = read_notes(text, _head(tune, meter))
    if [note.pitches for note in answer.notes()] != [note.pitches for note in tune.notes()] or _rhythm(answer) != _rhythm(tune):
        return Judged((), "the notes are not those of the score")
    bars = answer.bars
    length = meter.length
    if length is None:
        raise AskError("the question states no metre")
    if len(bars) < 2:
        return Judged((), "there is no bar line between the notes")
    closed = bars if bars[-1].length >= length else bars[:-1]
    return Judged((rules.bars_full(closed),))


def repaired(ask: Ask, text: str) -> Judged:
    """The one faulty bar with a single length changed, pitches kept, so that it is full."""
    tune = ask.tune()
    faulty = [bar for bar in tune.bars if bar.is_full is False]
    if len(faulty) != 1:
        raise AskError(f"the score has {len(faulty)} faulty bars; the question is about one")
    [bar] = faulty
    answer = read_notes(text, header(bar.key, bar.meter, bar.unit))
    if len(answer.bars) != 1:
        return Judged((), f"{len(answer.bars)} bars, want the one that was wrong")
    got, want = answer.bars[0].notes, bar.notes
    if [note.pitches for note in got] != [note.pitches for note in want]:
        return Judged((), "the pitches are not those of the bar")
    changed = sum(a.duration != b.duration for a, b in zip(got, want, strict=True))
    if changed == 0:
        return Judged((), "the bar is copied")
    edits = Rule("edits", 1.0 / changed, "" if changed == 1 else f"{changed} lengths are changed, one suffices")
    return Judged((rules.bars_full(answer.bars), edits))


# --- free tasks ---------------------------------------------------------------------------------------------------------


def continued(ask: Ask, text: str) -> Judged:
    """New bars behind the score: as many as asked, full, in key and range, without wild leaps, ending on the asked note, not copied."""
    tune = ask.tune()
    count = int(ask.params.get("bars", 1))
    last = parse_abc_note(str(ask.params["end"]))
    answer = read_notes(text, _head(tune))
    if any(len(note.pitches) > 1 for note in answer.notes()):
        return Judged((), "chords in a melody")
    bars, pitches, before = answer.bars, answer.melody(), tune.melody()
    if not pitches:
        return Judged((), "no note sounds")
    if len(bars) != count:
        return Judged((), f"{len(bars)} bars, want {count}")
    if _lines(bars) & _lines(tune.bars):
        return Judged((), "a bar of the score is copied")
    end = pitches[-1] == last
    fewest = 2 * count
    return Judged(
        (
            rules.bars_full(bars),
            rules.in_key(pitches, tune.key),
            rules.in_range(pitches, *rules.MELODY_RANGE),
            rules.small_leaps([*before[-1:], *pitches]),
            Rule("end", float(end), "" if end else f"ends on {pitches[-1].name}, want {last.name}"),
            Rule("notes", min(1.0, len(pitches) / fewest), "" if len(pitches) >= fewest else f"fewer than {fewest} notes"),
        )
    )


def _lines(bars: Sequence[Bar]) -> set[tuple[object, ...]]:
    """What bars play, for comparison: pitches with lengths. A bar with a single note repeats no one's idea."""
    return {tuple((note.pitches, note.duration) for note in bar.notes) for bar in bars if len(bar.sounded) > 1}


def harmonised(ask: Ask, text: str) -> Judged:
    """Lower voices under the score's melody, one chord a note, after the rules of voice leading.

    With two voices the answer is the bass line; with four it is chords in brackets, bass first, the melody on top.
    """
    tune = ask.tune()
    voices = int(ask.params.get("voices", 2))
    melody = pitches_of(tune)
    answer = read_notes(text, _head(tune))
    if voices == 2:
        basses = pitches_of(answer)
        if len(basses) != len(melody):
            return Judged((), f"{len(basses)} notes in the bass, the melody has {len(melody)}")
        chords: list[tuple[Pitch, ...]] = list(zip(basses, melody, strict=True))
        own = (rules.consonant(chords), rules.in_range(basses, 36, 62))
        if basses == melody:
            return Judged((), "the melody is copied")
    else:
        notes = [note for note in answer.notes() if not note.is_grace]
        chords = [tuple(sorted(note.pitches, key=lambda pitch: (pitch.midi, pitch.step))) for note in notes]
        if [len(chord) for chord in chords] != [voices] * len(melody):
            return Judged((), f"want {len(melody)} chords of {voices} notes")
        if [chord[-1] for chord in chords] != melody:
            return Judged((), "the melody is not the top voice")
        own = (_named(chords), *_voice_ranges(chords))
    lower = [pitch for chord in chords for pitch in chord[:-1]]
    ends = [degree_of(chords[index][0], tune.key) == 1 for index in (0, -1)]
    return Judged(
        (
            *own,
            rules.in_key(lower, tune.key),
            rules.voices_ordered(chords),
            rules.no_parallels(chords),
            rules.voice_leaps(chords),
            rules.leading_note_rises(chords, tune.key),
            Rule("tonic", sum(ends) / 2, "" if all(ends) else "the first and the last bass note must be the tonic"),
        )
    )


def _named(chords: Sequence[Sequence[Pitch]]) -> Rule:
    """Each chord is a triad or seventh chord (the fifth may be missing from neither)."""
    faults = []
    for number, chord in enumerate(chords, 1):
        try:
            identify(chord)
        except PitchError:
            faults.append(f"chord {number} ({' '.join(pitch.spelled for pitch in chord)}) has no name")
    return Rule("chords", 1.0 - len(faults) / len(chords), faults[0] if faults else "")


def _voice_ranges(chords: Sequence[Sequence[Pitch]]) -> tuple[Rule, ...]:
    names = ("bass", "tenor", "alto", "soprano")
    found = []
    for index, name in enumerate(names[: len(chords[0]) - 1]):
        rule = rules.in_range([chord[index] for chord in chords], *rules.VOICE_RANGES[name])
        found.append(Rule(f"{name} range", rule.share, rule.fault))
    return tuple(found)


COMPOSED: Mapping[str, Callable[[Ask, str], Judged]] = {
    "transpose": transposed,
    "bars": barred,
    "repair": repaired,
    "continue": continued,
    "harmonise": harmonised,
}
"""Kind -> its judge."""


def judge(ask: Ask, text: str) -> Judged:
    """Judge an answer that is music.

    Raises:
        AskError: the question is faulty.
        AnswerError: the text is no notation of the wanted sort.
    """
    try:
        return COMPOSED[ask.kind](ask, text)
    except (AbcError, PitchError) as err:
        raise AnswerError(str(err)) from err
