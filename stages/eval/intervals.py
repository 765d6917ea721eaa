"""Confidence intervals for one eval figure. Paired differences between stages are in `factory.pipeline.compare`."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""


def mean_interval(scores: Sequence[float], *, z: float = Z95) -> tuple[float, float]:
    """95 % interval of the mean of scores in [0, 1]: Wilson's for 0/1 scores, the normal one (clipped) otherwise.

    Wilson's interval has width even when every score is equal, so a perfect run of 400 reads [0.990, 1.000].

    Returns:
        (low, high); (nan, nan) for no scores.

    Source: Wilson 1927, JASA 22(158), p. 209.
    """
    n = len(scores)
    if n == 0:
        return math.nan, math.nan
    mean = math.fsum(scores) / n
    if all(score in (0.0, 1.0) for score in scores):
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        # The clamps to the mean undo rounding at 0 and 1, where the exact limit is the mean itself.
        return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / max(1, n - 1))
    half = z * spread / math.sqrt(n)
    return max(0.0, mean - half), min(1.0, mean + half)
