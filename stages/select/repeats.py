"""How often a kept prompt stands in the next training set: hard ones more often (OREAL's table, guides B1.10)."""

from __future__ import annotations

from collections.abc import Sequence

OREAL = ((0.2, 6), (0.4, 4), (0.6, 4), (0.8, 2))
"""Pass rates in (0, .2): 6 times, [.2, .4): 4, [.4, .6): 4, [.6, .8): 2 (arXiv 2502.06781, released code)."""


def times_for(pass_rate: float, table: Sequence[Sequence[float]]) -> int:
    """Times of the first row whose bound lies above the pass rate; 1 at and above the last bound.

    Args:
        table: (bound, times) rows, bounds rising. Empty: once each.
    """
    return next((int(times) for bound, times in table if pass_rate < bound), 1)
