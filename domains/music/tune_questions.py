"""Questions about a whole tune: what sounds, how far it reaches, its key, metre, form. Answers come from the score alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from factory.domains.music.abc_writer import Event, write_bar
from factory.domains.music.asks import Ask, AskError, right_answers
from factory.domains.music.forms import strains
from factory.domains.music.keys import NO_KEY
from factory.domains.music.meter import write_length
from factory.domains.music.pitch import to_abc
from factory.domains.music.score import Note, Tune


@dataclass(frozen=True)
class TuneQuestion:
    """A question about a tune."""

    task: str
    ask: Ask
    text: str
    shown: str
    """The ABC that the prompt shows: the score, with what is asked for taken out."""
    answer: str
    told: str
    difficulty: str


COMMON_FORM = "AABB"
SKIPPED = 0.6
"""Share of the tunes of the commonest form that are not asked for it, so that naming it always does not pay."""
_TuneMaker = Callable[[random.Random, str, Tune], TuneQuestion | None]


def _place(rng: random.Random, tune: Tune, notes: int = 1) -> tuple[int, int] | None:
    """A bar and a note in it behind which `notes - 1` more follow; half of the time one whose sign is not printed at it."""
    places, hidden = [], []
    for bar_number, bar in enumerate(tune.bars, 1):
        sounded = bar.sounded  # found anew at each call, so once for a bar
        for number, note in enumerate(sounded[: len(sounded) - notes + 1], 1):
            places.append((bar_number, number))
            if _has_hidden(note):
                hidden.append((bar_number, number))
    if not places:
        return None
    return rng.choice(hidden) if hidden and rng.random() < 0.5 else rng.choice(places)


def _is_hidden(tune: Tune, bar: int, number: int) -> bool:
    return _has_hidden(tune.bars[bar - 1].sounded[number - 1])


def _has_hidden(note: Note) -> bool:
    return any(pitch.alter and not printed for pitch, printed in zip(note.pitches, note.printed, strict=True))


def pitch(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """Sounding pitch of one note: key signature and accidentals of the bar count."""
    place = _place(rng, tune)
    if place is None:
        return None
    bar, number = place
    ask = Ask("pitch", abc, {"bar": bar, "note": number})
    [answer] = right_answers(ask)
    signature = (
        " ".join(f"{letter}{'#' if alter > 0 else 'b'}" for letter, alter in tune.bars[bar - 1].key.signature.items())
        or "no accidentals"
    )
    text = f"Which pitch sounds as note {number} of bar {bar}? Chords and notes count, rests and grace notes do not; of a chord take the top note."
    told = f"The key signature has {signature}; with the accidentals of bar {bar} note {number} is {answer}."
    return TuneQuestion("tune_pitch", ask, text, abc, answer, told, "hard" if _is_hidden(tune, bar, number) else "easy")


def interval(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """Interval from one note to the next."""
    place = _place(rng, tune, 2)
    if place is None:
        return None
    bar, number = place
    ask = Ask("step", abc, {"bar": bar, "note": number})
    [answer] = right_answers(ask)
    first, second = (max(note.pitches) for note in tune.bars[bar - 1].sounded[number - 1 : number + 1])
    text = f"What is the interval between notes {number} and {number + 1} of bar {bar}? Rests and grace notes do not count."
    return TuneQuestion(
        "tune_interval", ask, text, abc, answer, f"They are {first.name} and {second.name}: a {answer}.", "medium"
    )


def key(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """The key of a tune whose accidentals are all written out. Asked of tunes that keep one key of seven known modes."""
    keys, heard = {bar.key for bar in tune.bars}, tune.melody()
    if len(keys) != 1 or not tune.key.tonic or tune.key.extra or not heard:
        return None
    ask = Ask("tune_key", abc)
    [answer] = right_answers(ask)
    last = heard[-1]
    shown = without_key(tune)
    told = f"The notes fit a signature of {abs(tune.key.fifths)} {'sharps' if tune.key.fifths > 0 else 'flats'}, and the tune ends on {last.spelled}: {answer}."
    text = "In which key is this tune? Its key signature is written out as accidentals. Give the tonic and the mode (major, minor, dorian ...)."
    return TuneQuestion("tune_key", ask, text, shown, answer, told, "hard")


def without_key(tune: Tune) -> str:
    """The first voice as plain ABC with `K:none`: bars, lengths and every accidental written out; ornaments and text are left out."""
    lines = [f"L:{tune.unit}", f"M:{tune.meter.name}", "K:none"]
    bars, meter = [], tune.meter
    for bar in tune.bars:
        events: list[Event] = [(note.pitches, note.duration) for note in bar.notes if not note.is_grace and note.layer == 0]
        change = f"[M:{bar.meter.name}] " if bar.meter != meter else ""
        meter = bar.meter
        bars.append(change + write_bar(events, NO_KEY, tune.unit))
    return "\n".join([*lines, " | ".join(bars) + " |]"])


def meter(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """The time signature of a tune without one. Asked where one metre is kept and most bars are full."""
    meters = {bar.meter for bar in tune.bars}
    if len(meters) != 1 or tune.meter.length is None or "[M:" in abc:
        return None
    full = sum(bar.length == tune.meter.length for bar in tune.bars)
    if full * 2 <= len(tune.bars):
        return None
    hidden = re.sub(r"(?m)^M:.*$", "M:none", abc)
    ask = Ask("meter", hidden)
    try:
        [answer] = right_answers(ask)
    except AskError:
        return None
    told = f"A full bar has {write_length(tune.meter.length / tune.unit) or '1'} units of {tune.unit}: {answer}."
    shown = re.sub(r"(?m)^M:.*\n", "", abc)
    return TuneQuestion("tune_meter", ask, "Which time signature does this tune need?", shown, answer, told, "medium")


def form(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """The form as heard, one letter a strain. Asked of tunes with two to eight strains."""
    found = strains(tune)
    ask = Ask("form", abc)
    [answer] = right_answers(ask)
    if not 2 <= len(answer) <= 8 or (answer == COMMON_FORM and rng.random() < SKIPPED):
        return None
    told = (
        f"There are {len(found)} strains between repeat signs and double bars; played out with their repeats they are {answer}."
    )
    text = "What is the form of this tune? Give one letter for each strain as heard, repeats played out, equal letters for equal strains, such as AABB."
    return TuneQuestion("tune_form", ask, text, abc, answer, told, "hard")


def span(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """From the lowest to the highest note."""
    ask = Ask("range", abc)
    [answer] = right_answers(ask)
    pitches = [one for note in tune.notes() if not note.is_grace for one in note.pitches]
    low, high = min(pitches), max(pitches)
    text = "What is the interval between the lowest and the highest note of this tune? Grace notes do not count."
    told = f"The lowest note is {low.name} ({to_abc(low)}), the highest {high.name} ({to_abc(high)}): a {answer}."
    return TuneQuestion("tune_range", ask, text, abc, answer, told, "medium")


def bar_count(rng: random.Random, abc: str, tune: Tune) -> TuneQuestion | None:
    """Bars as written."""
    ask = Ask("bar_count", abc)
    [answer] = right_answers(ask)
    text = "How many bars has this tune as written? Count pickups and both endings, do not play repeats."
    return TuneQuestion("tune_bars", ask, text, abc, answer, f"Counted between bar lines there are {answer}.", "easy")


MAKERS: Mapping[str, _TuneMaker] = {
    "tune_pitch": pitch, "tune_interval": interval, "tune_key": key, "tune_meter": meter, "tune_form": form, "tune_range": span,
    "tune_bars": bar_count,
}  # fmt: skip


def questions(abc: str, tune: Tune, count: int, seed: str) -> list[TuneQuestion]:
    """Up to `count` different questions about a tune, drawn by the seed text; kinds that the tune does not allow are passed over."""
    rng = random.Random(seed)
    found: list[TuneQuestion] = []
    asked: set[tuple[str, str]] = set()
    for _ in range(4 * count):
        if len(found) == count:
            break
        try:
            made = MAKERS[rng.choice(list(MAKERS))](rng, abc, tune)
        except AskError:
            continue
        if made is not None and (made.task, made.text) not in asked:
            asked.add((made.task, made.text))
            found.append(made)
    return found
