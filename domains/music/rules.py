"""Rules of melody and of voice leading, each a share in [0, 1] with the places where it is broken.

Melody: full bars, notes of the key, range, leaps. Voice leading (common-practice counterpoint): voices keep their order, no parallel
fifths and octaves, consonance with the melody, ranges, leaps, the leading note rises, first and last chords are of the tonic.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.domains.music.intervals import between
from factory.domains.music.keys import Key, degree_of
from factory.domains.music.pitch import Pitch
from factory.domains.music.score import Bar

MELODY_RANGE = (55, 84)
"""MIDI keys of a singable or fiddle-like melody: G3 to C6."""
MAX_LEAP = 12
"""Semitones between neighbouring notes of a melody."""
VOICE_RANGES: Mapping[str, tuple[int, int]] = {"soprano": (60, 81), "alto": (53, 74), "tenor": (48, 69), "bass": (40, 64)}
"""MIDI keys of the four voices: C4-A5, F3-D5, C3-A4, E2-E4."""
MAX_BASS_LEAP = 12
MAX_INNER_LEAP = 9
CONSONANT = frozenset({0, 3, 4, 7, 8, 9})
"""Semitones above the bass, octaves taken off, that are consonant in two voices (a fourth is not)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How far one rule is kept."""

    name: str
    share: float
    fault: str = ""
    """The first place where it is broken."""

    @property
    def is_kept(self) -> bool:
        """Kept everywhere."""
        return self.share >= 1.0


def _rule(name: str, faults: Sequence[str], count: int) -> Rule:
    return Rule(name, max(0.0, 1.0 - len(faults) / max(count, 1)), faults[0] if faults else "")


# --- melody -------------------------------------------------------------------------------------------------------------


def bars_full(bars: Sequence[Bar], *, pickup: bool = False) -> Rule:
    """Each bar has the length of its metre; with `pickup` the first may be shorter, and the last by what the first has."""
    faults = []
    for number, bar in enumerate(bars, 1):
        length = bar.meter.length
        if length is None or bar.length == length or (pickup and number in (1, len(bars)) and bar.length < length):
            continue
        faults.append(f"bar {number} has {bar.length} of {length}")
    return _rule("bars", faults, len(bars))


def in_key(pitches: Sequence[Pitch], key: Key) -> Rule:
    """Each pitch belongs to the key; in minor keys the raised sixth and seventh do too."""
    faults = [f"{pitch.spelled} is not in {key.name}" for pitch in pitches if not belongs(pitch, key)]
    return _rule("key", faults, len(pitches))


def belongs(pitch: Pitch, key: Key) -> bool:
    """Whether a pitch is in the key, raised sixth and seventh of a minor key included."""
    if degree_of(pitch, key) is not None:
        return True
    lowered = Pitch(pitch.letter, pitch.alter - 1, pitch.octave)
    return key.mode in ("minor", "aeolian") and degree_of(lowered, key) in (6, 7)


def in_range(pitches: Sequence[Pitch], low: int, high: int) -> Rule:
    """Each pitch lies between two MIDI keys."""
    faults = [f"{pitch.name} is out of range" for pitch in pitches if not low <= pitch.midi <= high]
    return _rule("range", faults, len(pitches))


def small_leaps(pitches: Sequence[Pitch], most: int = MAX_LEAP) -> Rule:
    """No leap above `most` semitones, none by an augmented interval, and none of a seventh."""
    faults = []
    for a, b in itertools.pairwise(pitches):
        interval, _ = between(a, b)
        if abs(a.midi - b.midi) > most or interval.steps == 6 or interval.quality.endswith("augmented"):
            faults.append(f"{a.name}-{b.name} is a {interval.name}")
    return _rule("leaps", faults, len(pitches) - 1)


# --- voice leading ------------------------------------------------------------------------------------------------------

Voices = Sequence[Sequence[Pitch]]
"""Chords in order, each from the bass up."""


def voices_ordered(chords: Voices) -> Rule:
    """In each chord every voice lies above the one below it, and the upper voices at most an octave apart."""
    faults = []
    for number, chord in enumerate(chords, 1):
        for index, (low, high) in enumerate(itertools.pairwise(chord)):
            if low.midi > high.midi or (index > 0 and high.midi - low.midi > 12):
                faults.append(f"chord {number}: {low.name} under {high.name}")
                break
    return _rule("order", faults, len(chords))


def no_parallels(chords: Voices) -> Rule:
    """No two voices move in parallel perfect fifths, octaves or unisons."""
    faults = []
    for number, (first, second) in enumerate(itertools.pairwise(chords), 1):
        for low in range(len(first)):
            for high in range(low + 1, len(first)):
                moved = first[low].midi != second[low].midi and first[high].midi != second[high].midi
                gap = (first[high].midi - first[low].midi) % 12
                if moved and gap in (0, 7) and gap == (second[high].midi - second[low].midi) % 12:
                    faults.append(f"parallel {'fifths' if gap == 7 else 'octaves'} from chord {number} to {number + 1}")
    return _rule("parallels", faults, max(1, len(chords) - 1))


def consonant(chords: Voices) -> Rule:
    """Two voices: each interval above the bass is a unison, third, fifth, sixth or octave, spelled as one."""
    faults = []
    for number, chord in enumerate(chords, 1):
        for pitch in chord[1:]:
            interval, way = between(chord[0], pitch)
            if way < 0 or interval.steps % 7 not in (0, 2, 4, 5) or (pitch.midi - chord[0].midi) % 12 not in CONSONANT:
                faults.append(f"chord {number}: {chord[0].name}-{pitch.name} is a {interval.name}")
                break
    return _rule("consonance", faults, len(chords))


def voice_leaps(chords: Voices) -> Rule:
    """The bass leaps at most an octave, inner voices at most a sixth."""
    faults = []
    for number, (first, second) in enumerate(itertools.pairwise(chords), 1):
        for index in range(len(first) - 1):
            if abs(first[index].midi - second[index].midi) > (MAX_BASS_LEAP if index == 0 else MAX_INNER_LEAP):
                faults.append(f"voice {index + 1} leaps {first[index].name}-{second[index].name} behind chord {number}")
    return _rule("leaps", faults, max(1, (len(chords) - 1) * max(1, len(chords[0]) - 1 if chords else 1)))


def leading_note_rises(chords: Voices, key: Key) -> Rule:
    """Where the bass falls a fifth or rises a fourth to the tonic, the leading note in a lower voice goes to the tonic."""
    faults, count = [], 0
    for number, (first, second) in enumerate(itertools.pairwise(chords), 1):
        if degree_of(first[0], key) != 5 or degree_of(second[0], key) != 1:
            continue
        for index in range(1, len(first) - 1):
            gap = (first[index].midi - second[0].midi) % 12
            if gap == 11:
                count += 1
                if second[index].midi - first[index].midi != 1:
                    faults.append(f"the leading note {first[index].name} behind chord {number} does not rise")
    return _rule("leading note", faults, max(1, count))
