"""Questions about intervals, chords, scales and keys: the SSMR-Bench templates made right, and more of that kind."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

from factory.domains.music.abc_writer import bare_notes, header, plain_notes, words
from factory.domains.music.asks import Ask, right_answers
from factory.domains.music.chords import (
    INVERSIONS,
    QUALITIES,
    SSMR_ROOTS,
    TRIADS,
    Chord,
    diatonic,
    identify,
    invert,
    roman,
    stack,
)
from factory.domains.music.intervals import Interval, between, letters_between, natural_semitones, transpose
from factory.domains.music.keys import NO_KEY, Key, major_keys, minor_keys, relative, scale, signature_of, tonic_of
from factory.domains.music.meter import FREE
from factory.domains.music.pitch import SHARP_ORDER, Pitch, PitchError, from_step, parse_pitch, to_abc
from factory.domains.music.question import Question, wrong_options

UNIT = Fraction(1, 4)
LOW, HIGH = 28, 41
"""Staff places of drawn notes: C4 to B5."""
TILE_HIGH = 40
"""Highest place that a 64 px tile shows: A5."""
OCTAVE = 34
"""Highest place of one octave: B4. All its notes are capital letters in ABC."""
QUALITY_NAMES = ("perfect", "major", "minor", "augmented", "diminished")
NUMBER_WORDS = ("unison", "second", "third", "fourth", "fifth", "sixth", "seventh", "octave")


def score_of(notes: str, key: Key = NO_KEY) -> str:
    """A score of bare notes in free metre."""
    return f"{header(Key('C', 'major') if key is NO_KEY else key, FREE, UNIT)}\n{notes}"


def _alter(rng: random.Random) -> int:
    return rng.choices((0, 1, -1), (6, 2, 2))[0]


def _draw(rng: random.Random, high: int) -> Pitch:
    return from_step(rng.randint(LOW, high), _alter(rng))


def interval(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """IntervalNumber: the interval between two notes. Numbers are drawn evenly, so that no number pays by itself."""
    first = _draw(rng, high)
    steps, way = rng.randint(1, 7), rng.choice((1, -1))
    place = first.step + way * steps
    if not LOW <= place <= high:
        return None
    second = from_step(place, _alter(rng))
    found, direction = between(first, second)
    if found.quality not in QUALITY_NAMES or direction == 0:
        return None
    low, high = (first, second) if direction > 0 else (second, first)
    letters = letters_between(low, high)
    natural = natural_semitones(letters)
    bare = plain_notes((first, second))
    ask = Ask("interval", score_of(bare))
    steps_text = f"notes {words((first, second))} , {words((low, high))} , {_compared(low, high, found)}"
    told = (
        f"From {low.name} to {high.name} the letters are {' '.join(letters)}: a {found.number}. "
        f"Without accidentals it spans {natural} semitones, with them {found.semitones}, so it is {found.quality}."
    )
    near = [Interval(max(0, found.steps + d), s).name for d in (-1, 0, 1) for s in (-2, -1, 0, 1)]
    difficulty = "easy" if low.alter == high.alter == 0 else "medium" if low.alter == 0 or high.alter == 0 else "hard"
    return Question(
        "interval", ask, bare, "interval {score} ?", "What is the interval between these two notes?", found.name, steps_text, told,
        difficulty, wrong_options(rng, ask, found.name, [name for name in near if name.split()[0] in QUALITY_NAMES]),
    )  # fmt: skip


def _compared(first: Pitch, second: Pitch, found: Interval) -> str:
    """The interval of the letters alone, and by how many semitones the asked one is wider: `c e major third +1`."""
    plain = (from_step(first.step), from_step(second.step))
    natural = between(*plain)[0]
    wider = found.semitones - natural.semitones
    return f"{words(plain)} {natural.name} {f'{wider:+d}' if wider else wider}"


def note(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """NoteCompletionByInterval: the note at an interval. The direction is said, so that only one note is right."""
    first, way = _draw(rng, high), rng.choice((1, -1))
    steps = rng.randint(1, 7)
    is_perfect = steps % 7 in (0, 3, 4)
    shift = rng.choices((0, -1, 1), (4, 1, 1))[0] if is_perfect else rng.choices((0, -1, 1, -2), (4, 4, 1, 1))[0]
    size = Interval(steps, shift)
    second = transpose(first, size, way)
    if abs(second.alter) > 1 or not LOW <= second.step <= high:
        return None
    direction = "up" if way == 1 else "down"
    bare, answer = plain_notes((first,)), to_abc(second)
    ask = Ask("note", score_of(bare), {"interval": size.name, "direction": direction})
    letters = letters_between(first, second)
    steps_text = f"notes {first.word} , {_compared(first, second, size)} , {second.word}"
    told = (
        f"A {size.number} {direction} from {first.name} passes the letters {' '.join(letters)}. A {size.name} has {size.semitones} semitones, "
        f"so the note is {second.name}, in ABC {answer}."
    )
    others = [
        transpose(first, Interval(max(0, steps + d), shift + s), w) for d in (-1, 0, 1) for s in (-1, 0, 1) for w in (way, -way)
    ]
    return Question(
        "note", ask, bare, f"note {size.name} {direction} {{score}} ?",
        f"Which note lies a {size.name} {direction} from this note? Write it in ABC.", answer, steps_text, told,
        "easy" if first.alter == second.alter == 0 else "medium" if first.alter == 0 or second.alter == 0 else "hard",
        wrong_options(rng, ask, answer, [to_abc(p) for p in others if abs(p.alter) <= 2 and LOW <= p.step <= high]), draws_options=True,
        key=f"note {size.name} {direction} {bare}",
    )  # fmt: skip


def _triad(rng: random.Random, high: int, inversion: int | None = None) -> tuple[str, str, list[Pitch]]:
    """Root, quality and close-position pitches of a triad that stays on the staff."""
    root, quality = rng.choice(SSMR_ROOTS), rng.choice(TRIADS)
    pitches = invert(stack(parse_pitch(root, octave=4), quality), rng.randint(0, 2) if inversion is None else inversion)
    return root, quality, lowered(pitches, high)


def lowered(pitches: list[Pitch], high: int) -> list[Pitch]:
    """The notes an octave lower where they leave the staff; within one octave (`high` B4) each note by itself."""
    if high < LOW + 7:
        return [from_step(LOW + pitch.step % 7, pitch.alter) for pitch in pitches]
    return [from_step(pitch.step - 7, pitch.alter) for pitch in pitches] if pitches[-1].step > high else pitches


def _stacked(root: str, quality: str) -> str:
    """The chord in thirds with the size of each, and its quality: `ees g 4 bes 3 major`."""
    members = stack(parse_pitch(root, octave=4), quality)
    names = [pitch.word for pitch in members]
    sizes = [b.midi - a.midi for a, b in itertools.pairwise(members)]
    return " ".join([names[0], *(f"{name} {size}" for name, size in zip(names[1:], sizes, strict=True)), quality])


def _chord_difficulty(root: str, quality: str, pitches: list[Pitch]) -> str:
    if any(abs(pitch.alter) > 1 for pitch in pitches) or identify(pitches).inversion:
        return "hard"
    return "easy" if all(pitch.alter == 0 for pitch in pitches) else "medium"


def chord(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """ChordIdentification: 14 roots by four qualities, spelled with double accidentals where the thirds want them."""
    root, quality, pitches = _triad(rng, high)
    rng.shuffle(pitches)
    bare = plain_notes(pitches)
    ask, answer = Ask("chord", score_of(f"[{''.join(to_abc(p) for p in pitches)}]")), f"{root} {quality}"
    told = f"In thirds the notes are {' '.join(p.spelled for p in stack(parse_pitch(root, octave=4), quality))}: {answer}."
    others = [f"{r} {q}" for r in (root, *rng.sample(SSMR_ROOTS, 4)) for q in TRIADS]
    return Question(
        "chord", ask, bare, "chord {score} ?", "Which chord do these notes form?", answer,
        f"notes {words(pitches)} , {_stacked(root, quality)}", told,
        _chord_difficulty(root, quality, pitches), wrong_options(rng, ask, answer, others),
    )  # fmt: skip


def chord_root(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """ChordRootIdentification: the root of a triad in any order."""
    root, quality, pitches = _triad(rng, high)
    rng.shuffle(pitches)
    bare = plain_notes(pitches)
    ask = Ask("root", score_of(f"[{''.join(to_abc(p) for p in pitches)}]"))
    told = f"Stacked in thirds the notes are {' '.join(p.spelled for p in stack(parse_pitch(root, octave=4), quality))}, so the root is {root}."
    others = [p.spelled for p in pitches] + rng.sample(SSMR_ROOTS, 5)
    thirds = _stacked(root, quality).rpartition(" ")[0]
    return Question(
        "chord_root", ask, bare, "root {score} ?", "What is the root of this chord?", root, f"notes {words(pitches)} , {thirds}", told,
        _chord_difficulty(root, quality, pitches), wrong_options(rng, ask, root, others),
    )  # fmt: skip


def chord_completion(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """ChordsCompletion: the third note of a named triad; as options, whole chords."""
    root, quality, pitches = _triad(rng, high, 0)
    left = rng.choice(pitches)
    there = [pitch for pitch in pitches if pitch != left]
    rng.shuffle(there)
    bare, answer = plain_notes(there), left.spelled
    ask = Ask("missing", score_of(f"[{''.join(to_abc(p) for p in there)}]"), {"chord": f"{root} {quality}"})
    told = f"{root} {quality} is {' '.join(p.spelled for p in pitches)}; {answer} is missing."
    found = " ".join(f"{p.word} {'out' if p == left else 'in'}" for p in pitches)
    others = [from_step(left.step + d, left.alter + s) for d in (-1, 0, 1) for s in (-1, 0, 1)]
    return Question(
        "chord_completion", ask, bare, f"missing in {root} {quality} {{score}} ?",
        f"These are two notes of the chord {root} {quality}. Which note is missing?", answer,
        f"notes {words(there)} , {found} , {left.word}", told,
        "easy" if all(p.alter == 0 for p in pitches) else "medium" if all(abs(p.alter) < 2 for p in pitches) else "hard",
        wrong_options(rng, ask, answer, [p.spelled for p in others if abs(p.alter) <= 2]), draws_options=True,
        key=f"missing {root} {quality} {bare}",
    )  # fmt: skip


def _key(rng: random.Random, most: int = 7) -> Key:
    return rng.choice([key for key in (*major_keys(), *minor_keys()) if abs(key.fifths) <= most])


def chord_key_root(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """ChordKeyRootIdentification: the root of a shuffled diatonic triad, accidentals in the key signature only."""
    key = _key(rng, 5)
    pitches = lowered(invert(diatonic(key, rng.randint(1, 7)), rng.randint(0, 2)), high)
    if pitches[0].step < LOW:
        return None
    rng.shuffle(pitches)
    body = " ".join(to_abc(pitch, "") for pitch in pitches)
    ask = Ask("root", score_of(f"[{body.replace(' ', '')}]", key))
    found = identify(pitches)
    sign = " ".join(to_abc(Pitch(letter, alter, 4)) for letter, alter in key.signature.items()) or "no sign"
    told = f"{key.name} has {sign.replace('no sign', 'no accidentals')}. The notes are {' '.join(p.spelled for p in pitches)}; the root is {found.root}."
    others = (
        [p.spelled for p in pitches]
        + [p.letter for p in pitches]
        + [parse_pitch(r, octave=4).spelled for r in rng.sample(SSMR_ROOTS, 4)]
    )
    return Question(
        "chord_key_root", ask, body, f"root K:{key.to_abc()} {{score}} ?", f"What is the root of this chord in {key.name}?", found.root,
        f"{body} , {sign} , {' '.join(to_abc(Pitch(p.letter, p.alter, 4)) for p in stack(parse_pitch(found.root, octave=4), found.quality))}", told,
        "easy" if not key.fifths else "medium", wrong_options(rng, ask, found.root, others), key=f"key root {key.name} {body}",
    )  # fmt: skip


def scale_name(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """ScaleIdentification: notes of a scale in any order behind its tonic, which comes first so that no relative key fits too."""
    kind = rng.choices(("major", "minor", "harmonic minor"), (2, 2, 1))[0]
    tonic = parse_pitch(rng.choice(major_keys() if kind == "major" else minor_keys()).tonic, octave=4)
    if abs(Key(tonic.spelled, "major" if kind == "major" else "minor").fifths) > 5:
        return None
    notes = scale(tonic, kind)[:-1]
    rest = notes[1:]
    rng.shuffle(rest)
    shown = [notes[0], *rest]
    bare = plain_notes(lowered(shown, high) if high < LOW + 7 else shown)
    ask, answer = Ask("scale", score_of(bare)), f"{tonic.spelled} {kind}"
    sizes = [b.midi - a.midi for a, b in itertools.pairwise(notes)]
    told = f"From {tonic.spelled} up the notes are {' '.join(p.spelled for p in notes)}, with steps of {' '.join(map(str, sizes))} semitones: {answer}."
    steps = f"notes {words(shown)} , {words(notes)} , {' '.join(map(str, sizes))}"
    others = [f"{t} {k}" for t in (tonic.spelled, relative(Key(tonic.spelled, kind.split()[-1])).tonic, notes[3].spelled, notes[4].spelled)
              for k in ("major", "minor", "harmonic minor")]  # fmt: skip
    return Question(
        "scale", ask, bare, "scale {score} ?", "Which scale do these notes form? The first note is its tonic.", answer, steps, told,
        "easy" if abs(Key(tonic.spelled, kind.split()[-1]).fifths) < 2 else "medium" if kind != "harmonic minor" else "hard",
        wrong_options(rng, ask, answer, others),
    )  # fmt: skip


def scale_selection(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """ScaleSelection: the rightly spelled scale, rising or falling; wrong ones are the reverse, the parallel and misspelled ones."""
    kind, direction = rng.choice(("major", "minor", "harmonic minor")), rng.choice(("up", "down"))
    tonic = parse_pitch(rng.choice(major_keys() if kind == "major" else minor_keys()).tonic, octave=4)
    params = {"tonic": tonic.spelled, "scale": kind, "direction": direction}
    ask = Ask("spelled_scale", "", params)
    up = scale(tonic, kind)
    if any(abs(pitch.alter) > 2 for pitch in up):
        return None
    right = bare_notes(up if direction == "up" else up[::-1])
    parallel = scale(tonic, "minor" if kind == "major" else "major")
    wrong = [bare_notes(up[::-1] if direction == "up" else up), bare_notes(parallel if direction == "up" else parallel[::-1])]
    for place in (2, 3, 5, 6):
        changed = [from_step(p.step, p.alter + rng.choice((-1, 1))) if i == place else p for i, p in enumerate(up)]
        if all(abs(p.alter) <= 2 for p in changed):
            wrong.append(bare_notes(changed if direction == "up" else changed[::-1]))
    told = f"{tonic.spelled} {kind} is {' '.join(p.spelled for p in up)}; {'rising' if direction == 'up' else 'falling'} it is {right}."
    return Question(
        "scale_selection", ask, "", f"spell {tonic.spelled} {kind} {direction} ?",
        f"Which is the {'rising' if direction == 'up' else 'falling'} scale of {tonic.spelled} {kind}, rightly spelled?", right,
        right, told, "medium" if abs(Key(tonic.spelled, kind.split()[-1]).fifths) < 4 else "hard",
        wrong_options(rng, ask, right, [text for text in wrong if "^^^" not in text and "___" not in text]),
        draws_options=True, key=f"spell {tonic.spelled} {kind} {direction}",
    )  # fmt: skip


def key_name(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """The major or minor key of a signature."""
    fifths, mode = rng.randint(-7, 7), rng.choice(("major", "minor"))
    major = Key(tonic_of(fifths, "major"), "major")
    signs = [to_abc(Pitch(letter, alter, 4)) for letter, alter in signature_of(fifths).items()]
    answer = f"{tonic_of(fifths, mode)} {mode}"
    ask = Ask("key", score_of("C", major), {"mode": mode})
    bare = " ".join(signs) or "none"
    steps = f"{bare} , {major.tonic} major" + ("" if mode == "major" else f" , {answer}")
    order = SHARP_ORDER if fifths > 0 else SHARP_ORDER[::-1]
    told = (
        f"The signature has {abs(fifths)} {'sharps' if fifths > 0 else 'flats'} ({' '.join(order[: abs(fifths)]) or 'none'}), that of {major.name}"
        + ("." if mode == "major" else f"; its relative minor is {answer}.")
    )
    others = [f"{tonic_of(f, mode)} {mode}" for f in range(max(-7, fifths - 3), min(7, fifths + 3) + 1)]
    return Question(
        "key", ask, bare, f"{mode} key {{score}} ?", f"Which {mode} key has this key signature?", answer, steps, told,
        "easy" if abs(fifths) < 3 else "medium" if mode == "major" else "hard", wrong_options(rng, ask, answer, others),
        key=f"key {mode} {bare}",
    )  # fmt: skip


def function(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """Roman numeral of a diatonic chord: root, third and quality in a key."""
    key, size = _key(rng, 4), rng.choice((3, 3, 4))
    pitches = diatonic(key, rng.randint(1, 7), size)
    if pitches[-1].step > TILE_HIGH + 3:
        pitches = [from_step(pitch.step - 7, pitch.alter) for pitch in pitches]
    body = "".join(to_abc(pitch, "") for pitch in pitches)
    ask = Ask("function", score_of(f"[{body}]", key))
    [answer] = right_answers(ask)
    found = identify(pitches)
    bare = " ".join(to_abc(pitch, "") for pitch in pitches)
    told = f"In {key.name} the notes are {' '.join(p.spelled for p in pitches)}, the chord {found.name}: {answer}."
    others = []
    for degree in range(1, 8):
        other = roman(identify(diatonic(key, degree, size)), key)
        numeral = other.rstrip("7ømaj+o")
        others += [other, other.replace(numeral, numeral.swapcase())]
    return Question(
        "function", ask, bare, f"function K:{key.to_abc()} {{score}} ?", f"Which Roman numeral has this chord in {key.name}?", answer,
        f"{bare} , {found.name}", told, "medium" if size == 3 else "hard", wrong_options(rng, ask, answer, others),
        key=f"function {key.name} {bare}",
    )  # fmt: skip


def inversion(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """Root position or which inversion; triads and sevenths."""
    quality = rng.choice(list(QUALITIES))
    root, times = rng.choice(SSMR_ROOTS), rng.randint(0, len(QUALITIES[quality]))
    pitches = stack(parse_pitch(root, octave=4), quality)
    if quality == "augmented" or any(abs(p.alter) > 2 for p in pitches):
        return None
    pitches = invert(pitches, times)
    bare = plain_notes(pitches)
    try:
        found: Chord = identify(pitches)
    except PitchError:
        return None
    ask, answer = Ask("inversion", score_of(f"[{plain_notes(pitches).replace(' ', '')}]")), INVERSIONS[times]
    told = f"The chord is {found.name} and its lowest note {pitches[0].spelled}, so it stands in {answer}."
    return Question(
        "inversion", ask, bare, "inversion {score} ?", "In which inversion does this chord stand? Its lowest note comes first.", answer,
        f"{bare} , {found.root}", told, "medium" if len(pitches) == 3 else "hard",
        wrong_options(rng, ask, answer, INVERSIONS[: len(pitches)] + INVERSIONS[3:]),
    )  # fmt: skip
