"""Group-relative advantages: how much better a rollout scored than the others of its prompt.

Scores are plain floats in reward units, one per rollout of one group; `None` marks a masked rollout (its verifier
failed), which takes no part in the group's statistics and gets the advantage 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Scores = Sequence[float | None]


def _live(scores: Scores) -> list[float]:
    return [score for score in scores if score is not None]


def _per_live_rollout(scores: Scores, scale: Callable[[list[float], float], float]) -> list[float]:
    live = _live(scores)
    # A group of equals, or of one, has nothing to compare with. Exactly 0, not the rounding error of a mean.
    if len(live) < 2 or max(live) == min(live):
        return [0.0] * len(scores)
    mean = math.fsum(live) / len(live)
    divisor = scale(live, mean)
    return [0.0 if score is None else (score - mean) / divisor for score in scores]


def standardised(scores: Scores, *, eps: float = 1e-6) -> list[float]:
    """`(r_i - mean) / (std + eps)` with the sample (n-1) standard deviation: GRPO and DAPO.

    Returns [G]; zeros for a group of equals or with fewer than two live rollouts.
    Source: DeepSeekMath, arXiv 2402.03300; n-1 as the released trainers compute it.
    """
    return _per_live_rollout(
        scores, lambda live, mean: math.sqrt(math.fsum((r - mean) ** 2 for r in live) / (len(live) - 1)) + eps
    )


def centred(scores: Scores, *, eps: float = 0.0) -> list[float]:
    """`r_i - mean`: no division, so hard and easy prompts are not blown up (Dr. GRPO, arXiv 2503.20783). `eps` is unused."""
    return _per_live_rollout(scores, lambda live, mean: 1.0)


def uncentred(scores: Scores, *, eps: float = 0.0) -> list[float]:
    """The score itself, with no baseline (REINFORCE). `eps` is unused."""
    return [0.0 if score is None else score for score in scores]


def has_spread(scores: Scores, *, tolerance: float = 1e-9) -> bool:
    """True when the live scores differ by more than `tolerance`, so that the group can teach something."""
    live = _live(scores)
    return len(live) >= 2 and max(live) - min(live) > tolerance
