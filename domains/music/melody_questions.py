"""Questions whose answer is music or about a melody: transposition, motifs, continuation, harmonisation."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

from factory.domains.music.abc_reader import read_abc
from factory.domains.music.abc_writer import header, plain_notes, words, write_bar, write_tune
from factory.domains.music.asks import Ask, AskError, right_answers
from factory.domains.music.compose import EIGHTH, bass_line, continuation, four_voices, in_key, melody, walk
from factory.domains.music.intervals import parse_interval, transpose
from factory.domains.music.keys import Key, major_keys, minor_keys
from factory.domains.music.meter import FREE, parse_meter
from factory.domains.music.motifs import RELATIONS
from factory.domains.music.pitch import LETTERS, from_step, to_abc
from factory.domains.music.question import Question, wrong_options
from factory.domains.music.theory_questions import OCTAVE, TILE_HIGH

QUARTER = Fraction(1, 4)
MOVES = ("major second", "minor third", "major third", "perfect fourth", "perfect fifth")


def transposition(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """Three to five notes moved by an interval, spelled exactly."""
    places = walk(rng, rng.randint(28, min(high, 36)), rng.randint(3, 5 if high > OCTAVE else 3), high=min(high, 39))
    given = [from_step(place, rng.choices((0, 1, -1), (8, 1, 1))[0]) for place in places]
    size, way = parse_interval(rng.choice(MOVES)), rng.choice((1, -1))
    moved = [transpose(pitch, size, way) for pitch in given]
    if any(abs(pitch.alter) > 1 or (high <= OCTAVE and not 28 <= pitch.step <= high) for pitch in moved):
        return None
    direction = "up" if way == 1 else "down"
    bare, answer = plain_notes(given), plain_notes(moved)
    ask = Ask("transpose", f"{header(Key('C', 'major'), FREE, QUARTER)}\n{bare}", {"interval": size.name, "direction": direction})
    letters = " ".join(pitch.letter for pitch in moved)
    pairs = f"notes {words(given)} , " + " , ".join(words(pair) for pair in zip(given, moved, strict=True))
    told = f"Each note goes a {size.name} {direction}: the letters become {letters}, with accidentals {answer}."
    return Question(
        "transposition", ask, bare, f"{direction} {size.name} {{score}} ?", f"Transpose these notes {direction} by a {size.name}. Write them in ABC.",
        answer, pairs, told, "medium" if all(p.alter == 0 for p in given) else "hard", key=f"{direction} {size.name} {bare}",
    )  # fmt: skip


def motif(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """What was done to a motif: moved, inverted, reversed, stretched."""
    places = walk(rng, rng.randint(30, 36), rng.randint(3, 4), leap=4)
    lengths = [rng.choice((1, 1, 2)) * EIGHTH for _ in places]
    relation = rng.choice(RELATIONS[1:])
    moved, times = list(places), list(lengths)
    if relation == "transposition":
        shift = rng.choice([s for s in (-4, -3, -2, 2, 3, 4) if min(places) + s >= 26 and max(places) + s <= 41])
        moved = [place + shift for place in places]
    elif relation == "inversion":
        moved = [2 * places[0] - place for place in places]
    elif relation == "retrograde":
        moved, times = places[::-1], lengths[::-1]
    else:
        times = [length * (2 if relation == "augmentation" else Fraction(1, 2)) for length in lengths]
    if not all(26 <= place <= 41 for place in moved):
        return None
    bars = [
        [((from_step(place),), length) for place, length in zip(*pair, strict=True)]
        for pair in ((places, lengths), (moved, times))
    ]
    bare = " | ".join(write_bar(bar, Key("C", "major"), EIGHTH) for bar in bars)
    ask = Ask("motif", f"{header(Key('C', 'major'), FREE, EIGHTH)}\n{bare} |]")
    try:
        if right_answers(ask) != [relation]:
            return None
    except AskError:
        return None
    moves = [" ".join(f"{b - a:+d}" for a, b in itertools.pairwise(row)) for row in (places, moved)]
    told = f"The steps of the first bar are {moves[0]}, those of the second {moves[1]}: {relation}."
    return Question(
        "motif", ask, bare, "motif {score} ?", "How is the second bar made from the first?", relation, f"{moves[0]} , {moves[1]}", told, "medium",
        wrong_options(rng, ask, relation, RELATIONS),
    )  # fmt: skip


def _small_key(rng: random.Random, most: int) -> Key:
    return rng.choice([key for key in (*major_keys(), *minor_keys()) if abs(key.fifths) <= most])


def next_bar(rng: random.Random, high: int = TILE_HIGH, bars: int = 1) -> Question | None:
    """Melody continuation: full bars in the key that end on an asked note. Rules judge; the answer here is one of many."""
    key = _small_key(rng, 3 if high > OCTAVE else 1)
    meter = parse_meter(rng.choice(("2/4", "3/4", "3/8", "4/4", "6/8")))
    music = melody(rng, key, meter, 2 if high > OCTAVE else 1, high=min(high, 39))
    tonic = LETTERS.index(key.tonic[0])
    last = in_key(
        rng.choice([place for place in range(28, min(high, 39) + 1) if place % 7 in (tonic, (tonic + 2) % 7, (tonic + 4) % 7)]),
        key,
    )
    body = " | ".join(write_bar(bar, key, EIGHTH) for bar in music)
    ask = Ask("continue", write_tune(music, key, meter, EIGHTH, end="|"), {"bars": bars, "end": to_abc(last)})
    try:
        answer = continuation(ask)
    except ValueError:
        return None
    told = f"A bar of {meter.name} has {meter.length} of a whole note; from {music[-1][-1][0][0].name} the line goes in {key.name} to {last.name}."
    said = "one bar" if bars == 1 else f"{bars} bars"
    return Question(
        "continuation", ask, body, f"next {meter.name} K:{key.to_abc()} {{score}} to {to_abc(last)} ?",
        f"Continue this melody by {said}: full bars in the key and in range, no leap above an octave, no copied bar, at least two notes a bar, "
        f"ending on {last.name}. Write only the new notes in ABC.", answer, f"{meter.length / EIGHTH} , {running_of(answer)}", told, "hard",
        key=f"next {meter.name} {key.name} {body} {to_abc(last)}",
    )  # fmt: skip


def running_of(text: str) -> str:
    """Eighths passed behind each note of a bar of ABC in eighths."""
    total, found = Fraction(0), []
    for note in read_abc(f"L:1/8\nM:none\nK:C\n{text}").notes():
        total += note.duration / EIGHTH
        found.append(str(total))
    return " ".join(found)


def harmony(rng: random.Random, high: int = TILE_HIGH, voices: int = 2) -> Question | None:
    """A bass (two voices) or three lower voices (four) under a short melody in a major key, by the rules of voice leading."""
    key = rng.choice([key for key in major_keys() if abs(key.fifths) <= 2])
    tonic = LETTERS.index(key.tonic[0])
    ends = [place for place in range(30, min(high, 37) + 1) if place % 7 in (tonic, (tonic + 2) % 7)]
    places = walk(rng, rng.choice(ends), rng.randint(3, 4), low=29, high=min(high, 38), leap=2)
    if places[-1] not in ends:
        return None
    body = " ".join(to_abc(in_key(place, key), "") for place in places)
    ask = Ask("harmonise", f"{header(key, FREE, QUARTER)}\n{body}", {"voices": voices})
    try:
        answer = bass_line(ask) if voices == 2 else four_voices(ask)
    except ValueError:
        return None
    if voices == 2:
        full = (
            f"Write a bass of as many notes under this melody in {key.name}: consonant (no fourths), below the melody, no parallel fifths or octaves, "
            "no leap above an octave, first and last note the tonic. Answer with the bass in ABC."
        )
    else:
        full = (
            f"Harmonise this melody in {key.name} for four voices, one chord a note, bass first in brackets and the melody on top: triads or seventh "
            "chords of the key, voices in order and range, no parallel fifths or octaves, first and last bass note the tonic. Answer in ABC."
        )
    lower = zip(body.split(), answer.split(), strict=True) if voices == 2 else ()
    steps = " , ".join(f"{top} {bass}" for top, bass in lower) if voices == 2 else f"{body} , {key.tonic}"
    return Question(
        "harmonisation", ask, body, f"{'bass' if voices == 2 else 'chords'} K:{key.to_abc()} {{score}} ?", full, answer,
        steps, f"The key is {key.name}; the first and last bass notes are {key.tonic}, between them each note is consonant: {answer}.",
        "hard", key=f"harmony {voices} {key.name} {body}",
    )  # fmt: skip
