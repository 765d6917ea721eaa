"""One long series as many short ones: windows around marked anomalies, and windows with what came after them.

Windows are split by time, never at random: a window of the test split lies after all of training, and one that straddles a
border is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from factory.data.splits import split_of

CLEAR_MOVE = 0.25
"""Standard deviations of the window by which the mean of what follows must differ from its end to be up or down; half of that is flat."""


@dataclass(frozen=True, eq=False)
class Window:
    """Steps [start, start + length) of a series."""

    start: int
    values: np.ndarray
    """[C, L]."""
    interval: tuple[int, int] | None = None
    """The anomalous stretch inside, in steps of the window."""
    after: str = ""
    """up, down or flat."""


def stretches(marks: np.ndarray) -> list[tuple[int, int]]:
    """Runs of marked steps as [start, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def anomaly_windows(values: np.ndarray, marks: np.ndarray, length: int) -> Iterator[Window]:
    """For each marked stretch, windows that hold it whole at four different places, and no part of another stretch."""
    total = values.shape[1]
    for begin, end in stretches(marks):
        if end - begin > length // 2 or total < length:
            continue
        first, last = max(0, end - length), min(begin, total - length)
        for start in sorted({first + (last - first) * part // 4 for part in range(4)}):
            inside = marks[start : start + length]
            if int(inside.sum()) == end - begin:
                yield Window(start, values[:, start : start + length], (begin - start, end - start))


def forecast_windows(values: np.ndarray, length: int, horizon: int) -> Iterator[Window]:
    """Windows of the first channel with the direction of what follows; unclear and incomplete ones are left out.

    The direction compares the mean of the next `horizon` steps with the mean of the window's last `horizon` // 2 (at least 1).
    """
    stride = max(1, length // 2)
    for start in range(0, values.shape[1] - length - horizon + 1, stride):
        window, after = values[:, start : start + length], values[0, start + length : start + length + horizon]
        if not (np.isfinite(window[0]).all() and np.isfinite(after).all()):
            continue
        spread = float(window[0].std())
        if spread <= 0.0:
            continue
        move = (float(after.mean()) - float(window[0, -max(1, horizon // 2) :].mean())) / spread
        if abs(move) >= CLEAR_MOVE:
            yield Window(start, window, after="up" if move > 0 else "down")
        elif abs(move) <= CLEAR_MOVE / 2:
            yield Window(start, window, after="flat")


def group_in_time(key: str, start: int, length: int, total: int, shares: Mapping[str, float]) -> str | None:
    """A leak group whose split is the one of the window's place in time; None for a window across a border.

    Training comes first, then validation, then test, by their shares. The group's name is searched until its hash falls into that
    split, so that the rule of `factory.data.splits` holds for it as for any other.
    """
    borders = ((total * (1.0 - shares["validation"] - shares["test"]), "train"), (total * (1.0 - shares["test"]), "validation"))
    first = next((name for border, name in borders if start < border), "test")
    last = next((name for border, name in borders if start + length <= border), "test")
    if first != last:
        return None
    return next((name for n in range(10_000) if split_of(name := f"time={key}:{first}:{n}", shares) == first), None)
