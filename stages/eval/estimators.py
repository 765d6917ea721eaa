"""Figures of several attempts per question: avg@k, the unbiased pass@k, and bootstrap intervals over questions. No torch.

Shape letters: Q = questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from factory.errors import ConfigError

CHUNK = 1 << 22
"""Random indices drawn at a time (32 MiB)."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k attempts, drawn without replacement from n of which c are right, is right.

    1 - C(n - c, k) / C(n, k), as a product, because the binomials overflow.

    Raises:
        ConfigError: k is not in 1..n, or c not in 0..n.

    Source: Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv 2107.03374, equation 1.
    """
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ConfigError(f"pass@{k} of {n} attempts with {c} right: k must be from 1 to the attempts. Ask for more attempts.")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def bootstrap_mean(values_Q: Sequence[float], *, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean over questions; attempts of one question stay together.

    Returns:
        (low, high); (nan, nan) for no questions.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    n = len(values_Q)
    if n == 0:
        return math.nan, math.nan
    values, rng, rows = np.asarray(values_Q, dtype=np.float64), np.random.default_rng(seed), max(1, CHUNK // n)
    means = [values[rng.integers(0, n, size=(min(rows, resamples - at), n))].mean(axis=1) for at in range(0, resamples, rows)]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def ks_for(num: int) -> list[int]:
    """The k that are reported for `num` attempts: powers of two, and `num`."""
    return sorted({2**power for power in range(num.bit_length()) if 2**power <= num} | {num})


def attempt_figures(scores_Q: Sequence[Sequence[float]], *, resamples: int, seed: int) -> dict[str, dict[str, object]]:
    """`avg@k` (all attempts) and `pass@k` for each k, each with value, n (questions) and ci.

    Args:
        scores_Q: scores of the attempts of each question that could be verified; an attempt is right at full marks (1.0).
            A question counts for pass@k only when it has k or more verified attempts.
    """
    most = max(map(len, scores_Q), default=0)
    found: dict[str, dict[str, object]] = {}
    averages = [math.fsum(scores) / len(scores) for scores in scores_Q if scores]
    found[f"avg@{most}"] = _figure(averages, resamples, seed)
    for k in ks_for(most) if most else []:
        values = [pass_at_k(len(row), sum(score >= 1.0 for score in row), k) for row in scores_Q if len(row) >= k]
        found[f"pass@{k}"] = _figure(values, resamples, seed)
    return found


def _figure(values: Sequence[float], resamples: int, seed: int) -> dict[str, object]:
    low, high = bootstrap_mean(values, resamples=resamples, seed=seed)
    return {
        "value": math.fsum(values) / len(values) if values else None, "n": len(values),
        "ci": [low, high] if math.isfinite(low) else None,
    }  # fmt: skip
