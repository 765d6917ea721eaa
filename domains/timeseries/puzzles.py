"""Series of 64 steps with a planted answer: an anomaly, a change, what comes next, which of two, how many pulses.

Places lie on a grid of 8 or 16 steps, so that they can be read off a small plot. Every answer is equally likely within its kind, and
draws near a threshold do not occur: effects are planted with a margin.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.domains.timeseries.series import Series

LENGTH, GRID = 64, 8
WIDE_GRID = 16
"""Grid of stretches and changes, which are harder to place than pulses."""
NOISE = {"easy": 0.05, "medium": 0.12, "hard": 0.2}
"""Standard deviation of the noise; planted effects are 1 to 2."""
ANOMALIES = ("spike", "flat", "noise", "shift")
CHANGES = ("mean", "swing", "pace")
NEXT = ("up", "down", "flat")
PAIR = ("red", "blue")
COMPARED = ("mean", "swing", "pace")
MOST_PULSES = 5


@dataclass(frozen=True, eq=False)
class Puzzle:
    """A series with what was planted. Fields that a kind does not use are empty."""

    kind: str
    """`anomaly`, `change`, `forecast`, `compare` or `count`."""
    series: Series
    difficulty: str
    what: str = ""
    """Kind of anomaly or change, pattern of a forecast, quantity compared."""
    answer: Any = None
    """[start, end), the step of a change, the next direction, the colour, or the number of pulses."""
    seen: tuple[tuple[str, str], ...] = ()
    """Further things that the plot shows, as (name, value)."""


def _time() -> np.ndarray:
    return np.arange(LENGTH, dtype=np.float64)


def _series(rows: list[np.ndarray], rng: np.random.Generator, noise: float, channels: tuple[str, ...] = ()) -> Series:
    values = np.stack(rows) + noise * rng.standard_normal((len(rows), LENGTH))
    return Series(values, -3.0, 3.0, channels)


def anomaly(rng: random.Random, difficulty: str) -> Puzzle:
    """A regular wave with one stretch of 16 or 32 steps that is a spike, flat, noisy or shifted; seven stretches are possible."""
    source = np.random.default_rng(rng.getrandbits(64))
    period = rng.choice((10.0, 12.0, 16.0))
    wave = np.sin(2 * np.pi * _time() / period + rng.uniform(0, 6.28))
    what, width = rng.choice(ANOMALIES), rng.choice((WIDE_GRID, 2 * WIDE_GRID))
    start = rng.randrange(0, LENGTH - width + 1, WIDE_GRID)
    inside = slice(start, start + width)
    if what == "spike":
        bump = np.sin(np.pi * (np.arange(width) + 0.5) / width) ** 2
        wave[inside] = wave[inside] * 0.4 + rng.choice((-1.0, 1.0)) * 2.4 * bump
    elif what == "flat":
        wave[inside] = wave[start]
    elif what == "noise":
        wave[inside] += source.choice((-1.3, 1.3), width) * source.uniform(0.6, 1.0, width)
    else:
        wave[inside] += rng.choice((-1.6, 1.6))
    return Puzzle("anomaly", _series([wave], source, NOISE[difficulty]), difficulty, what, [start, start + width])


def change(rng: random.Random, difficulty: str) -> Puzzle:
    """A wave of which the mean, the swing or the pace changes at one of five steps (16 to 48) and stays changed."""
    source = np.random.default_rng(rng.getrandbits(64))
    what, at = rng.choice(CHANGES), rng.randrange(2 * GRID, LENGTH - GRID, GRID)
    is_after = _time() >= at
    swing, shift, pace = np.full(LENGTH, 0.7), np.zeros(LENGTH), np.full(LENGTH, 1 / 12.0)
    if what == "mean":
        shift[is_after] = rng.choice((-1.8, 1.8))
        shift -= shift.mean()
    elif what == "swing":
        small, large = rng.choice(((0.3, 1.7), (1.7, 0.3)))
        swing = np.where(is_after, large, small)
    else:
        first, second = rng.choice(((1 / 20.0, 1 / 5.0), (1 / 5.0, 1 / 20.0)))
        pace = np.where(is_after, second, first)
        swing[:] = 1.0
    wave = shift + swing * np.sin(2 * np.pi * np.cumsum(pace) + rng.uniform(0, 6.28))
    return Puzzle("change", _series([wave], source, NOISE[difficulty]), difficulty, what, at)


def forecast(rng: random.Random, difficulty: str) -> Puzzle:
    """Where the noise-free series goes in the next 8 steps: a wave that ends at its top (down) or bottom (up), or a line."""
    source = np.random.default_rng(rng.getrandbits(64))
    answer = rng.choice(NEXT)
    is_wave = answer != "flat" and rng.random() < 0.6
    if is_wave:
        period = rng.uniform(18.0, 26.0)
        top = answer == "down"
        lag = rng.uniform(0.0, 0.08) * period  # the turning point lies just before the end
        wave = (1.0 if top else -1.0) * rng.uniform(1.0, 1.4) * np.cos(2 * np.pi * (_time() - (LENGTH - 1 - lag)) / period)
        seen = (("pattern", "wave"), ("end", "high" if top else "low"))
    else:
        slope = {"up": 1.0, "down": -1.0, "flat": 0.0}[answer] * rng.uniform(0.03, 0.05)
        wave = slope * (_time() - LENGTH / 2) + rng.uniform(-0.5, 0.5)
        seen = (("pattern", "line"), ("end", {"up": "high", "down": "low", "flat": "middle"}[answer]))
    return Puzzle("forecast", _series([wave], source, NOISE[difficulty]), difficulty, "next", answer, seen)


def compare(rng: random.Random, difficulty: str) -> Puzzle:
    """Two waves, red and blue: which has the higher mean, the larger swing, the faster pace. All three are told apart."""
    source = np.random.default_rng(rng.getrandbits(64))
    higher = {name: rng.randrange(2) for name in COMPARED}
    rows = []
    for index in range(2):
        mean = 0.9 if higher["mean"] == index else -0.9
        swing = rng.uniform(1.1, 1.4) if higher["swing"] == index else rng.uniform(0.35, 0.5)
        period = rng.uniform(6.0, 8.0) if higher["pace"] == index else rng.uniform(16.0, 22.0)
        rows.append(mean + swing * np.sin(2 * np.pi * _time() / period + rng.uniform(0, 6.28)))
    what = rng.choice(COMPARED)
    seen = tuple((name, PAIR[higher[name]]) for name in COMPARED)
    return Puzzle("compare", _series(rows, source, NOISE[difficulty], PAIR), difficulty, what, PAIR[higher[what]], seen)


def count(rng: random.Random, difficulty: str) -> Puzzle:
    """One to five pulses on a quiet line, each in a cell of 8 steps of its own."""
    source = np.random.default_rng(rng.getrandbits(64))
    number = rng.randint(1, MOST_PULSES)
    cells = sorted(rng.sample(range(LENGTH // GRID), number))
    wave = np.full(LENGTH, -1.0)
    for cell in cells:
        centre = cell * GRID + GRID / 2 + rng.uniform(-1.0, 1.0)
        wave += rng.uniform(2.0, 3.0) * np.exp(-0.5 * ((_time() - centre) / 1.1) ** 2)
    seen = (("at", " ".join(str(cell * GRID) for cell in cells)),)
    return Puzzle("count", _series([wave], source, NOISE[difficulty]), difficulty, "pulses", number, seen)


PUZZLES = {"anomaly": anomaly, "change": change, "forecast": forecast, "compare": compare, "count": count}
