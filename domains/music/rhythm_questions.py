"""Questions about metre: SSMR-Bench's TimeSignature and BarLinePlacement, and rhythm repair. Lengths are exact fractions."""

from __future__ import annotations

import random
from fractions import Fraction

from factory.domains.music.abc_writer import Event, header, write_bar
from factory.domains.music.asks import Ask
from factory.domains.music.compose import EIGHTH, fill, in_key, walk
from factory.domains.music.keys import Key
from factory.domains.music.meter import FREE, parse_meter
from factory.domains.music.question import Question, wrong_options
from factory.domains.music.theory_questions import TILE_HIGH

METERS = ("2/4", "3/4", "4/4", "5/4", "3/8", "5/8", "6/8", "7/8", "9/8", "12/8")
ALL_METERS = (*METERS, "2/2", "3/2", "4/2", "6/4", "7/4", "4/8", "8/8", "10/8", "1/4", "2/8")
"""The signatures from which wrong options come; only those of another length than the right one are used."""
C_MAJOR = Key("C", "major")


def _bar(rng: random.Random, length: Fraction, high: int, most: int) -> list[Event]:
    """One bar of notes on the staff, at most `most` of them."""
    lengths = fill(rng, length)
    while len(lengths) > most:
        lengths = fill(rng, length)
    places = walk(rng, rng.randint(29, min(high, 37)), len(lengths), high=high)
    return [((in_key(place, C_MAJOR),), duration) for place, duration in zip(places, lengths, strict=True)]


def running(events: list[Event], *, names: bool = True) -> str:
    """Each note and the eighths passed behind it: `A2 2 B 3`. Without names its length instead: `2 2 1 3`."""
    total, found = Fraction(0), []
    for event in events:
        total += event[1] / EIGHTH
        found.append(f"{write_bar([event], C_MAJOR, EIGHTH) if names else event[1] / EIGHTH} {total}")
    return " ".join(found)


def _said(length: Fraction) -> str:
    """The usual signature of a bar length: eighths, or quarters where they suffice."""
    eighths = length / EIGHTH
    return f"{eighths}/8" if eighths % 2 or eighths in (6, 12) else f"{eighths / 2}/4"


def time_signature(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """TimeSignature: one bar without `M:`. Signatures of equal length are all right, so none of them is a wrong option."""
    eighths = rng.randint(2, 9)
    events = _bar(rng, eighths * EIGHTH, high, 4)
    bare = write_bar(events, C_MAJOR, EIGHTH)
    answer = _said(eighths * EIGHTH)
    ask = Ask("meter", f"{header(C_MAJOR, FREE, EIGHTH)}\n{bare} |")
    told = (
        f"The notes have {' '.join(str(d / EIGHTH) for _, d in events)} eighths, {eighths} in all, which fills a bar of {answer}."
    )
    return Question(
        "time_signature", ask, bare, "meter {score} ?", "This is one full bar with unit length 1/8. Which time signature fits?", answer,
        running(events), told, "easy" if len(events) < 4 else "medium", wrong_options(rng, ask, answer, ALL_METERS),
        drawn_steps=running(events, names=False),
    )  # fmt: skip


def bar_lines(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """BarLinePlacement: put the bar lines into a row of notes."""
    meter = parse_meter(rng.choice(("2/4", "3/4", "3/8", "4/4", "6/8")))
    assert meter.length is not None
    bars = [_bar(rng, meter.length, high, 5) for _ in range(2 if meter.length >= Fraction(3, 4) else 3)]
    flat = [event for bar in bars for event in bar]
    bare = write_bar(flat, C_MAJOR, EIGHTH)
    answer = " | ".join(write_bar(bar, C_MAJOR, EIGHTH) for bar in bars)
    ask = Ask("bars", f"{header(C_MAJOR, FREE, EIGHTH)}\n{bare}", {"meter": meter.name})
    told = f"A bar of {meter.name} has {meter.length / EIGHTH} eighths; counting them puts the lines here: {answer}."
    steps = " | ".join(running(bar) for bar in bars)
    others = [" | ".join(_regroup(flat, Fraction(n, 8))) for n in range(2, 10) if Fraction(n, 8) != meter.length]
    return Question(
        "bar_lines", ask, bare, f"bars {meter.name} {{score}} ?", f"Put the bar lines into these notes, in {meter.name} with unit length 1/8.",
        answer, steps, told, "medium", wrong_options(rng, ask, answer, [text for text in others if text]), draws_options=True,
        key=f"bars {meter.name} {bare}",
    )  # fmt: skip


def _regroup(events: list[Event], length: Fraction) -> list[str]:
    """The notes in bars of another length; empty when the notes do not divide so."""
    bars: list[list[Event]] = [[]]
    for event in events:
        if sum((duration for _, duration in bars[-1]), Fraction(0)) >= length:
            bars.append([])
        bars[-1].append(event)
    return [write_bar(bar, C_MAJOR, EIGHTH) for bar in bars] if len(bars) > 1 else []


def repair(rng: random.Random, high: int = TILE_HIGH) -> Question | None:
    """A bar too long or too short by one note's length: change one length so that it is full. Several answers may be right."""
    meter = parse_meter(rng.choice(("2/4", "3/4", "3/8", "4/4", "6/8", "5/8")))
    assert meter.length is not None
    events = _bar(rng, meter.length, high, 6)
    if len(events) < 2:
        return None
    place = rng.randrange(len(events))
    pitches, duration = events[place]
    wrong = duration + rng.choice([delta for delta in (-2, -1, 1, 2) if duration + delta * EIGHTH > 0]) * EIGHTH
    broken = [(pitches, wrong) if index == place else event for index, event in enumerate(events)]
    bare, answer = write_bar(broken, C_MAJOR, EIGHTH), write_bar(events, C_MAJOR, EIGHTH)
    ask = Ask("repair", f"{header(C_MAJOR, meter, EIGHTH)}\n{bare} |")
    full, has = meter.length / EIGHTH, sum((d for _, d in broken), Fraction(0)) / EIGHTH
    steps = f"{running(broken)} , {full} , {abs(has - full)} {'less' if has > full else 'more'}"
    told = f"The bar has {has} eighths, {meter.name} wants {full}: {abs(has - full)} {'too many' if has > full else 'too few'}. One length is changed: {answer}."
    return Question(
        "repair", ask, bare, f"repair {meter.name} {{score}} ?",
        f"This bar does not fill {meter.name} (unit length 1/8). Write it with one length changed so that it does.", answer, steps, told,
        "medium", key=f"repair {meter.name} {bare}",
    )  # fmt: skip
