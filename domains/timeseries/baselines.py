"""Classical classifiers on the same split: majority, 1-NN with Euclidean and DTW distance, ROCKET; and macro-F1 for all.

Distances and ROCKET come from aeon. Without aeon only the majority and the Euclidean neighbour remain, the latter by numpy.
Shape letters: N = series, C = channels, L = time steps.
"""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from factory.domains.timeseries.series import bin_means, filled

log = logging.getLogger(__name__)

MOST_STEPS = 512
"""Longer series are averaged down before any distance."""
DTW_STEPS, DTW_WINDOW = 128, 0.1
"""DTW sees at most so many steps, with a Sakoe-Chiba band of a tenth of them."""
NUM_KERNELS = 2000
ROCKET_MIN_STEPS = 9
"""ROCKET's kernels are 7, 9 or 11 long."""


def has_aeon() -> bool:
    """Whether the extra `timeseries` is installed."""
    return importlib.util.find_spec("aeon") is not None


def stacked(rows: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """[N, C, L] float64: all series on one length (by default the median of theirs, at most MOST_STEPS); the fewest channels are kept.

    Args:
        rows: [C, L] each; lengths may differ, NaN is missing.
    """
    length = length or min(MOST_STEPS, int(np.median([row.shape[1] for row in rows])))
    channels = min(len(row) for row in rows)
    return np.stack([np.stack([filled(bin_means(values, length)) if len(values) != length else filled(values)
                               for values in row[:channels]]) for row in rows])  # fmt: skip


def macro_f1(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """Mean F1 over the classes that occur in `truth`; a guess outside them is simply wrong."""
    scores = []
    for label in sorted(set(truth)):
        hits = sum(t == g == label for t, g in zip(truth, guesses, strict=True))
        scores.append(2.0 * hits / (sum(t == label for t in truth) + sum(g == label for g in guesses)))
    return float(np.mean(scores))


def accuracy(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """Share of equal pairs."""
    return float(np.mean([t == g for t, g in zip(truth, guesses, strict=True)]))


def majority(labels: Sequence[str], count: int) -> list[str]:
    """The most frequent training class (ties: the first in the alphabet), `count` times."""
    counts = Counter(labels)
    return [min(counts, key=lambda label: (-counts[label], label))] * count


def distances(test: np.ndarray, train: np.ndarray, kind: str) -> np.ndarray:
    """[N test, N train] distances, `euclidean` or `dtw` (needs aeon). Channels are summed (dependent DTW)."""
    if kind == "euclidean" and not has_aeon():
        gaps = test.reshape(len(test), -1)[:, None] - train.reshape(len(train), -1)[None]
        return np.sqrt((gaps**2).sum(axis=-1))
    from aeon.distances import pairwise_distance

    options = {"window": DTW_WINDOW} if kind == "dtw" else {}
    return np.asarray(pairwise_distance(test, train, method=kind, **options))


def nearest(test: np.ndarray, train: np.ndarray, labels: Sequence[str], kind: str) -> list[str]:
    """The class of the nearest training series; ties go to the first."""
    return [labels[int(index)] for index in distances(test, train, kind).argmin(axis=1)]


def rocket(test: np.ndarray, train: np.ndarray, labels: Sequence[str], seed: int) -> list[str]:
    """ROCKET (arXiv 1910.13051) with NUM_KERNELS kernels and ridge regression, from aeon."""
    from aeon.classification.convolution_based import RocketClassifier

    model = RocketClassifier(n_kernels=NUM_KERNELS, random_state=seed, n_jobs=1)
    model.fit(train, np.array(labels))
    return [str(label) for label in model.predict(test)]


@cache
def _say_what_is_left_out() -> None:
    log.warning("1-NN DTW and ROCKET are left out: they need aeon. Install it with pip install 'domain-factory[timeseries]'.")


def guesses_of_all(
    test: Sequence[np.ndarray], train: Sequence[np.ndarray], labels: Sequence[str], seed: int
) -> Mapping[str, list[str]]:
    """Baseline -> its guess for each test series. Needs at least one training series."""
    found = {"majority": majority(labels, len(test))}
    length = min(MOST_STEPS, int(np.median([row.shape[1] for row in train])))
    channels = min(len(row) for row in (*train, *test))
    wide = stacked([row[:channels] for row in train], length), stacked([row[:channels] for row in test], length)
    found["1nn_ed"] = nearest(wide[1], wide[0], labels, "euclidean")
    if not has_aeon():
        _say_what_is_left_out()
        return found
    short = min(length, DTW_STEPS)
    narrow = [stacked([row[:channels] for row in rows], short) for rows in (train, test)]
    found["1nn_dtw"] = nearest(narrow[1], narrow[0], labels, "dtw")
    if length >= ROCKET_MIN_STEPS and len(set(labels)) > 1:
        found["rocket"] = rocket(wide[1], wide[0], labels, seed)
    return found
