"""Keep prompts by their pass rate: neither hopeless nor solved."""

from __future__ import annotations


def in_window(pass_rate: float | None, above: float | None = 0.0, below: float | None = 1.0) -> bool:
    """True when `above < pass_rate < below`, both ends open; a bound of None asks nothing, an unknown rate is never kept.

    (0, 1) is the filter of OREAL and Intern-S1 (guides B9.4; arXiv 2502.06781, 2508.15763) and of Metis-RISE's own traces
    (guides B10); (0.25, 1) drops what a first measurement shows as solved or too hard; (0, None) is all that can be answered,
    which OpenVLThinker's shortest-correct lessons take.
    """
    if pass_rate is None:
        return False
    return (above is None or pass_rate > above) and (below is None or pass_rate < below)
