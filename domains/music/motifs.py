"""How one short motif is made from another: moved, turned upside down, played backwards, or stretched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from factory.domains.music.score import Note

RELATIONS = ("repetition", "transposition", "inversion", "retrograde", "augmentation", "diminution")


def relations(first: Sequence[Note], second: Sequence[Note]) -> list[str]:
    """Every relation that holds, by steps on the staff (diatonic) and exact lengths; none when the lengths or counts disagree."""
    if len(first) != len(second) or len(first) < 3:
        return []
    a, b = ([max(note.pitches).step for note in notes] for notes in (first, second))
    times_a, times_b = ([note.duration for note in notes] for notes in (first, second))
    moves_a, moves_b = ([y - x for x, y in itertools.pairwise(steps)] for steps in (a, b))
    found = []
    if times_a == times_b:
        if a == b:
            return ["repetition"]
        if moves_a == moves_b:
            found.append("transposition")
        if moves_a == [-move for move in moves_b] and any(moves_a):
            found.append("inversion")
    if times_a[::-1] == times_b and a[::-1] == b and "transposition" not in found and a != b:
        found.append("retrograde")
    if a == b:
        found += ["augmentation"] if [2 * time for time in times_a] == times_b else []
        found += ["diminution"] if times_a == [2 * time for time in times_b] else []
    return found
