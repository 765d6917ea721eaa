"""The form of a tune: its strains between repeat signs and double bars, named by what they play (AABB)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from factory.domains.music.score import Bar, Tune

MAX_STRAINS = 26
_DOUBLE = ("||", "|]", "[|")


def strains(tune: Tune) -> list[tuple[tuple[Bar, ...], bool]]:
    """The strains in written order, each with whether it is repeated.

    A strain ends at a repeat sign or a double bar. First and second endings belong to the strain in front of them. A pickup
    (at most half a bar) that stands alone between two signs joins the strain behind it.
    """
    found: list[tuple[tuple[Bar, ...], bool]] = []
    current: list[Bar] = []
    bars = tune.bars
    for bar, behind in zip(bars, (*bars[1:], None), strict=True):
        current.append(bar)
        is_repeat_end = bar.closes.startswith(":")
        is_end = (
            behind is None
            or behind.opens.endswith(":")
            or any(mark in bar.closes for mark in _DOUBLE)
            or (is_repeat_end and behind.ending in ("", "1"))
        )
        if is_end:
            found.append((tuple(current), any(one.closes.startswith(":") for one in current)))
            current = []
    return _join_pickups(found)


def _join_pickups(groups: list[tuple[tuple[Bar, ...], bool]]) -> list[tuple[tuple[Bar, ...], bool]]:
    found: list[tuple[tuple[Bar, ...], bool]] = []
    carried: tuple[Bar, ...] = ()
    for index, (bars, is_repeated) in enumerate(groups):
        length = bars[0].meter.length
        is_pickup = len(bars) == 1 and length is not None and bars[0].length <= length / 2 and index < len(groups) - 1
        if is_pickup and not is_repeated:
            carried += bars
            continue
        found.append((carried + bars, is_repeated))
        carried = ()
    return found


def _content(bars: Sequence[Bar]) -> tuple[tuple[tuple[int, ...], Fraction], ...]:
    """What a strain plays: pitches and lengths of full bars; pickups at its edges are left out."""
    full = [bar for bar in bars if bar.meter.length is None or bar.length >= bar.meter.length] or list(bars)
    return tuple(
        (tuple(pitch.midi for pitch in note.pitches), note.duration) for bar in full for note in bar.notes if not note.is_grace
    )


def form_of(tune: Tune) -> str:
    """`AABB`: one letter per strain as heard, equal letters for equal music; repeated strains count twice."""
    letters: dict[tuple[tuple[tuple[int, ...], Fraction], ...], str] = {}
    heard = ""
    for bars, is_repeated in strains(tune)[:MAX_STRAINS]:
        letter = letters.setdefault(_content(bars), chr(ord("A") + len(letters)))
        heard += letter * (2 if is_repeated else 1)
    return heard
