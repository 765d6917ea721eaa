"""Random melodies that keep a key and fill their bars, and right answers to free tasks found by search."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

from factory.domains.music import rules
from factory.domains.music.abc_writer import Event, write_bar
from factory.domains.music.asks import Ask
from factory.domains.music.chords import diatonic
from factory.domains.music.composed import judge
from factory.domains.music.keys import Key, degree_of
from factory.domains.music.meter import Meter
from factory.domains.music.pitch import LETTERS, Pitch, from_step, parse_abc_note

EIGHTH = Fraction(1, 8)
_LENGTHS = (1, 1, 1, 1, 2, 2, 2, 3, 4)
"""Note lengths in eighths, as often as they are drawn."""
_TRIES = 200


def in_key(step: int, key: Key) -> Pitch:
    """The pitch of the key on a staff place."""
    return from_step(step, key.signature.get(LETTERS[step % 7], 0))


def fill(rng: random.Random, length: Fraction, unit: Fraction = EIGHTH) -> list[Fraction]:
    """Random note lengths that add up to `length`."""
    left, found = length, []
    while left > 0:
        drawn = min(rng.choice(_LENGTHS) * unit, left)
        found.append(drawn)
        left -= drawn
    return found


def walk(rng: random.Random, start: int, count: int, low: int = 28, high: int = 39, leap: int = 3) -> list[int]:
    """`count` staff places that move by steps and small leaps within bounds, never standing still more than once."""
    places = [start]
    while len(places) < count:
        move = rng.choice([m for m in range(-leap, leap + 1) if m and low <= places[-1] + m <= high])
        places.append(places[-1] + move)
    return places


def melody(rng: random.Random, key: Key, meter: Meter, bars: int, unit: Fraction = EIGHTH, high: int = 39) -> list[list[Event]]:
    """Full bars of a melody in the key."""
    assert meter.length is not None
    lengths = [fill(rng, meter.length, unit) for _ in range(bars)]
    places = iter(walk(rng, rng.randint(30, min(high, 37)), sum(map(len, lengths)), high=high))
    return [[((in_key(next(places), key),), duration) for duration in bar] for bar in lengths]


def continuation(ask: Ask) -> str:
    """A right answer to a `continue` question, found by trying random endings in a fixed order."""
    tune, count = ask.tune(), int(ask.params.get("bars", 1))
    last = parse_abc_note(str(ask.params["end"]))
    before = tune.melody()[-1]
    assert tune.meter.length is not None
    rng = random.Random(f"music-continuation-{ask.score}-{last.name}")
    for _ in range(_TRIES):
        lengths = [fill(rng, tune.meter.length, tune.unit if tune.unit >= EIGHTH else EIGHTH) for _ in range(count)]
        total = sum(map(len, lengths))
        if any(len(bar) < 2 for bar in lengths):
            continue
        places = _bridge(rng, before.step, last.step, total)
        flat = iter(places)
        bars = [[((in_key(next(flat), tune.key),), duration) for duration in bar] for bar in lengths]
        bars[-1][-1] = ((last,), bars[-1][-1][1])
        text = " | ".join(write_bar(bar, tune.key, tune.unit) for bar in bars)
        if judge(ask, text).score == 1.0:
            return text
    raise ValueError("no continuation was found for this question")


def _bridge(rng: random.Random, start: int, end: int, count: int) -> list[int]:
    """Staff places from behind `start` to `end` in `count` notes, evenly with a little wandering."""
    found = []
    for index in range(1, count + 1):
        middle = start + (end - start) * index / count
        found.append(end if index == count else max(26, min(40, round(middle + rng.choice((-2, -1, -1, 0, 1, 1, 2))))))
    return found


def bass_line(ask: Ask) -> str:
    """A right bass under the melody of a two-voice `harmonise` question: search note by note with backtracking."""
    tune = ask.tune()
    top = [note.pitches[0] for note in tune.notes()]
    places = range(14, 27)
    choices = [[in_key(place, tune.key) for place in places] for _ in top]
    found = _search(ask, [], choices, top, random.Random(f"music-bass-{ask.score}"))
    if found is None:
        raise ValueError("no bass was found for this melody")
    return write_bar([((pitch,), note.duration) for pitch, note in zip(found, tune.notes(), strict=True)], tune.key, tune.unit)


def _search(
    ask: Ask, line: list[Pitch], choices: Sequence[Sequence[Pitch]], top: Sequence[Pitch], rng: random.Random
) -> list[Pitch] | None:
    """Extend `line` so that every rule stays kept."""
    key, index = ask.tune().key, len(line)
    if index == len(top):
        return line
    is_end = index in (0, len(top) - 1)
    near = line[-1].step if line else 21
    pool = sorted(choices[index], key=lambda pitch: (abs(pitch.step - near), rng.random()))
    for pitch in pool:
        chords = [*zip([*line, pitch], top[: index + 1], strict=True)]
        if is_end and degree_of(pitch, key) != 1:
            continue
        kept = (rules.consonant(chords[-1:]), rules.in_range([pitch], 36, 62), rules.voices_ordered(chords[-1:]),
                rules.no_parallels(chords[-2:]), rules.voice_leaps(chords[-2:]), rules.leading_note_rises(chords[-2:], key))  # fmt: skip
        if all(rule.is_kept for rule in kept):
            found = _search(ask, [*line, pitch], choices, top, rng)
            if found is not None:
                return found
    return None


def four_voices(ask: Ask) -> str:
    """Right four-part chords under a melody: diatonic triads in any spacing, searched with backtracking."""
    tune = ask.tune()
    notes = list(tune.notes())
    top = [note.pitches[0] for note in notes]
    rng = random.Random(f"music-chords-{ask.score}")
    found = _search_chords([], top, tune.key, rng)
    if found is None:
        raise ValueError("no harmony was found for this melody")
    events: list[Event] = [(tuple(chord), note.duration) for chord, note in zip(found, notes, strict=True)]
    return write_bar(events, tune.key, tune.unit)


def _spacings(pitch: Pitch, key: Key, degree: int) -> list[tuple[Pitch, ...]]:
    """Four-part settings of the triad on a degree with `pitch` on top: each member present, the root doubled."""
    members = diatonic(key, degree)
    letters = {member.letter: member.alter for member in members}
    if pitch.letter not in letters:
        return []
    found = []
    for tenor in range(21, 34):
        for alto in range(tenor + 1, 37):
            for bass in range(16, 27):
                chord = [from_step(place, letters.get(LETTERS[place % 7], 9)) for place in (bass, tenor, alto)]
                if any(one.alter == 9 for one in chord) or {one.letter for one in chord} | {pitch.letter} != set(letters):
                    continue
                if chord[0].letter == members[0].letter:
                    found.append((*chord, pitch))
    return found


def _search_chords(
    line: list[tuple[Pitch, ...]], top: Sequence[Pitch], key: Key, rng: random.Random
) -> list[tuple[Pitch, ...]] | None:
    index = len(line)
    if index == len(top):
        return line
    degrees = [1] if index in (0, len(top) - 1) else [1, 4, 5, 6, 2, 3]
    pool = [chord for degree in degrees for chord in _spacings(top[index], key, degree)]
    before = line[-1] if line else None
    rng.shuffle(pool)
    pool.sort(key=lambda chord: sum(abs(a.midi - b.midi) for a, b in zip(chord, before, strict=True)) if before else 0)
    for chord in pool:
        pair = [*line[-1:], chord]
        ranges = zip(chord[:3], ("bass", "tenor", "alto"), strict=True)
        if not all(rules.VOICE_RANGES[name][0] <= pitch.midi <= rules.VOICE_RANGES[name][1] for pitch, name in ranges):
            continue
        kept = (
            rules.voices_ordered([chord]),
            rules.no_parallels(pair),
            rules.voice_leaps(pair),
            rules.leading_note_rises(pair, key),
        )
        if all(rule.is_kept for rule in kept):
            found = _search_chords([*line, chord], top, key, rng)
            if found is not None:
                return found
    return None
