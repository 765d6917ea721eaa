"""Where to cut a step's rollouts into micro-batches, so that little of what the model computes is padding.

A micro-batch is as wide as its longest row, and rollouts are ragged: one batch of all of them is often half padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

START_COST = 512
"""Positions that one more micro-batch must save: what starting a forward and a backward takes. Measured on small models."""


def cut(lengths: Sequence[int], most_rows: int, start_cost: int = START_COST) -> list[list[int]]:
    """Places of `lengths` (tokens, best sorted) in consecutive parts of at most `most_rows` (0: any number), in order.

    A part is cut in two where that saves the most padding, as long as it saves `start_cost` positions.
    """
    size = most_rows or max(1, len(lengths))
    parts: list[list[int]] = []
    for start in range(0, len(lengths), size):
        parts += _halves(list(range(start, min(start + size, len(lengths)))), lengths, start_cost)
    return parts


def _halves(places: list[int], lengths: Sequence[int], start_cost: int) -> list[list[int]]:
    own = [lengths[i] for i in places]
    before, after = list(accumulate(own, max)), list(accumulate(reversed(own), max))[::-1]
    whole = len(own) * before[-1]
    costs = [n * before[n - 1] + (len(own) - n) * after[n] for n in range(1, len(own))]
    best = min(costs, default=whole)
    if whole - best < start_cost:
        return [places]
    n = costs.index(best) + 1
    return _halves(places[:n], lengths, start_cost) + _halves(places[n:], lengths, start_cost)
