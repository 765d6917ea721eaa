"""What to do with answers that run into the length limit (DAPO, arXiv 2503.14476, section 3.4).

Two independent pieces. Filtering: a truncated rollout keeps its reward in the group's statistics and gets no gradient.
Soft punishment: a reward term that grows over the last `cache` tokens. Together, a truncated rollout still lowers its
group's mean (with its punishment) while it is not itself trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.contracts import Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout


def soft_punishment(length: int, *, max_length: int, cache: int, factor: float = 1.0) -> float:
    """DAPO eq. 13: 0 up to `max_length - cache`, then falling in a line to `-factor` at `max_length` and beyond.

    Args:
        length: tokens of the completion.
        max_length: hard limit, tokens. cache: width of the falling part, tokens; 0 means no punishment.
        factor: in reward units.
    """
    if cache <= 0:
        return 0.0
    overrun = length - (max_length - cache)
    return -factor * min(max(overrun / cache, 0.0), 1.0)


@piece(
    "reward", "overlong", formula="-factor * clip((len - (L_max - L_cache)) / L_cache, 0, 1)",
    source="DAPO, arXiv 2503.14476, eq. 13",
    caveat="the paper's rewards span [-1, 1]; a mixture spans [0, 1], for which factor 0.5 is the same weight",
)  # fmt: skip
@dataclass(frozen=True)
class OverlongPunishment:
    """Soft overlong punishment."""

    cache_share: float = 0.2
    """L_cache as a share of max_new_tokens (the paper: 4096 of 20480)."""
    factor: float = 0.5
    """Most that it takes away, in reward units."""

    def __post_init__(self) -> None:
        if not 0 < self.cache_share <= 1 or self.factor < 0:
            raise ValueError("cache_share must be above 0 and at most 1, factor 0 or more.")

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """0 or less, reward units."""
        limit = ctx.max_new_tokens
        return soft_punishment(rollout.length, max_length=limit, cache=round(self.cache_share * limit), factor=self.factor)


@piece(
    "resample", "overlong_filter", formula="m = 0 for rollouts cut by the length limit", source="DAPO, arXiv 2503.14476, sec. 3.4"
)
@dataclass(frozen=True)
class OverlongFilter:
    """A truncated rollout keeps its reward in the group and gets no gradient."""

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups without their truncated rollouts."""
        return [replace(group, rollouts=[r for r in group.rollouts if r.finished]) for group in groups]
