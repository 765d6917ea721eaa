"""Is one stage better than another? Paired bootstrap of the mean difference over the same held-out samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.contracts import Status
from factory.errors import DataError

CHUNK = 1 << 22
"""Random indices drawn at a time (32 MiB)."""


@dataclass(frozen=True)
class Difference:
    """Mean of (after - before) with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Samples measured in both."""


def read_scores(path: Path) -> dict[str, float]:
    """Sample id -> score, of the rows whose verifier worked.

    Raises:
        DataError: the file is damaged, or an id occurs twice (pairs would be ambiguous).
    """
    scores: dict[str, float] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as err:
        raise DataError(f"{path}: cannot be read: {err}. Delete the step's folder and run the build again.") from err
    for number, row in enumerate(rows, 1):
        if row["id"] in scores:
            raise DataError(
                f"{path}:{number}: sample id '{row['id']}' occurs twice. Ids of held-out samples must be unique; mend the pack."
            )
        if not Status(row["status"]).is_masked:
            scores[row["id"]] = float(row["score"])
    return scores


def paired_difference(before: Mapping[str, float], after: Mapping[str, float], *, resamples: int, seed: int) -> Difference | None:
    """Percentile bootstrap over samples: draw n pairs with replacement, take the mean difference, `resamples` times.

    The interval covers the choice of samples, not the choice of training seed.

    Args:
        before, after: sample id -> score; only ids in both count.

    Returns:
        None when no sample was measured in both.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    shared = sorted(before.keys() & after.keys())
    if not shared:
        return None
    differences_N = np.array([after[key] - before[key] for key in shared], dtype=np.float64)
    n, rng = len(shared), np.random.default_rng(seed)
    rows = max(1, CHUNK // n)
    means = [
        differences_N[rng.integers(0, n, size=(min(rows, resamples - start), n))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Difference(math.fsum(differences_N.tolist()) / n, float(low), float(high), n)
