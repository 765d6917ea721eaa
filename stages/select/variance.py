"""Keep prompts by the spread of their rewards (Temporal-R1, guides B9.5). The paper's threshold is not published.

N = prompts; an unknown variance (None) is never kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def reaches_quantile(variances_N: Sequence[float | None], q: float) -> list[bool]:
    """Which prompts have a standard deviation of at least the q-quantile of all known ones; ties are kept.

    The quantile interpolates linearly between the two nearest of the sorted values, at place `q * (n - 1)`. A spread of 0 is
    kept only when the quantile itself is 0: use the pass window to drop it.
    """
    spreads = sorted(math.sqrt(variance) for variance in variances_N if variance is not None)
    if not spreads:
        return [False] * len(variances_N)
    place = q * (len(spreads) - 1)
    low, high = spreads[math.floor(place)], spreads[math.ceil(place)]
    threshold = low + (high - low) * (place - math.floor(place))
    # Interpolating between equal values may round above both of them.
    threshold = min(threshold, high) - 1e-12
    return [variance is not None and math.sqrt(variance) >= threshold for variance in variances_N]


def in_top(variances_N: Sequence[float | None], names_N: Sequence[str], num: int) -> list[bool]:
    """Which prompts are among the `num` of largest variance. Equal variances go by name, so their order in the file is free."""
    known = [place for place, variance in enumerate(variances_N) if variance is not None]
    chosen = set(sorted(known, key=lambda place: (-(variances_N[place] or 0.0), names_N[place]))[:num])
    return [place in chosen for place in range(len(variances_N))]
