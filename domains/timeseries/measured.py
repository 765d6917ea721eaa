"""What can be measured on any series, in words: the worked reasoning and the captions of real data.

Places are in 64ths of the series on a grid of 8, so that they read alike for every length.
"""

from __future__ import annotations

import numpy as np

from factory.domains.timeseries.series import bin_means, filled
from factory.domains.timeseries.wording import is_terse

PLACES, GRID = 64, 8
THIRDS = ("low", "middle", "high")
TURNS = (("few", 3), ("some", 8))
"""Word, and the number of crossings of the middle up to which it holds; above the last it is `many`."""


def measure(values: np.ndarray) -> dict[str, str]:
    """Name -> value, of the channel that varies most.

    peak, dip: where the highest and the lowest value lie. start, end: the level of the first and the last eighth. wide: eighths of
    the series above the middle of its range. turns: how often it crosses that middle. channel: which one (several channels only).

    Args:
        values: [C, L], NaN where missing.
    """
    rows = np.stack([filled(row) for row in values])
    index = int(rows.std(axis=1).argmax())
    short = bin_means(rows[index], PLACES)
    low, high = float(short.min()), float(short.max())
    span = (high - low) or 1.0
    level = (short - low) / span
    above = level > 0.5
    crossings = int((above[1:] != above[:-1]).sum())
    found = {"channel": str(index + 1)} if len(rows) > 1 else {}
    return found | {
        "peak": str(int(short.argmax()) // GRID * GRID), "dip": str(int(short.argmin()) // GRID * GRID),
        "start": _third(level[:GRID].mean()), "end": _third(level[-GRID:].mean()),
        "wide": str(int(np.rint(above.mean() * 8))),
        "turns": next((word for word, most in TURNS if crossings <= most), "many"),
    }  # fmt: skip


def _third(level: float) -> str:
    return THIRDS[min(2, int(float(level) * 3))]


SENTENCES = {
    "channel": "Channel {} varies most.", "peak": "It is highest near step {} of 64.", "dip": "It is lowest near step {} of 64.",
    "start": "It starts {}.", "end": "It ends {}.", "wide": "It lies above its middle for {} of 8 parts.",
    "turns": "It crosses its middle {} times.",
}  # fmt: skip


def told(found: dict[str, str], style: str) -> list[str]:
    """One statement per measurement."""
    if is_terse(style):
        return [f"{name} {value}" for name, value in found.items()]
    return [SENTENCES[name].format(value) for name, value in found.items()]
