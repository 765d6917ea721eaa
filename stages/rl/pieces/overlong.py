"""What to do with answers that run into the length limit (DAPO, arXiv 2503.14476, section 3.4).

Two independent pieces. Filtering: a truncated rollout keeps its reward in the group's statistics and gets no gradient.
Soft punishment: a reward term that grows over the last `cache` tokens. Together, a truncated rollout still lowers its
group's mean (with its punishment) while it is not itself trained on.
"""

from __future__ import annotations


def soft_punishment(length: int, *, max_length: int, cache: int, factor: float = 1.0) -> float:
    """DAPO eq. 13: 0 up to `max_length - cache`, then falling in a line to `-factor` at `max_length` and beyond.

    Args:
        length: tokens of the completion.
        max_length: hard limit, tokens. cache: width of the falling part, tokens; 0 means no punishment.
        factor: in reward units. The paper's rewards span [-1, 1]; a mixture spans [0, 1], for which 0.5 is the same weight.
    """
    if cache <= 0:
        return 0.0
    overrun = length - (max_length - cache)
    return -factor * min(max(overrun / cache, 0.0), 1.0)
