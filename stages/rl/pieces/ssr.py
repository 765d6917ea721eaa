"""Selective sample replay of VL-Rethinker (arXiv 2504.08837): places left by rollouts without an advantage are filled again.

It works after the advantage, on single rollouts: those with |A| = 0 teach nothing and go; a short queue remembers the rest
with the advantages they had in their own groups, and large ones come back more often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.draws import draw, live_rollouts, magnitude, normalised, with_only
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.replay import Row, bring_back, keep
from factory.stages.rl.rollouts import Group, Rollout

VARIANTS = ("paper", "code", "filter_only")
CODE_OFFSET = 1e-4
"""Added to every weight when the code draws from the queue."""


def priorities(magnitudes: Sequence[float], alpha: float) -> list[float]:
    """`|A_j|^alpha / sum_i |A_i|^alpha`."""
    return normalised([value**alpha for value in magnitudes])


@piece(
    "resample", "ssr", needs={"behaviour_logprobs"},
    formula="drop |A| = 0; fill up from a queue with P_j = |A_j|^alpha / sum |A|^alpha",
    source="VL-Rethinker, arXiv 2504.08837; https://github.com/TIGER-AI-Lab/VL-Rethinker",
    caveat="paper: the queue of earlier steps fills the batch up again. code: this step's rollouts join the queue first, the batch "
    "shrinks to half, drawn from this step without replacement and then from the queue. The code also lists all-correct rollouts "
    "with weight 0, which changes nothing and is left out",
)  # fmt: skip
@dataclass
class SelectiveReplay:
    """The queue and its draws."""

    variant: str = "paper"
    """`paper`, `code`, or `filter_only`: drop |A| = 0 and repeat the others in turn up to half the batch."""
    alpha: float = 1.0
    """Exponent of |A|."""
    queue_share: float = 0.5
    """Length of the queue, as a share of the step's rollouts."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant={self.variant!r} is not known. Choose one of: {', '.join(VARIANTS)}.")
        if self.alpha < 0 or self.queue_share <= 0:
            raise ValueError("alpha must be 0 or more and queue_share above 0.")
        self._queue: list[Row] = []

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """Groups of the rollouts that train; a replayed one is a group by itself."""
        rollouts = live_rollouts(groups)
        useful = [(place, rollout) for place, rollout in rollouts if magnitude(rollout) > 0]
        ctx.metrics["ssr/useful_share"] = len(useful) / max(len(rollouts), 1)
        if self.variant == "filter_only":
            return with_only(
                groups, [useful[i % len(useful)] for i in range(max(len(useful), len(rollouts) // 2))] if useful else []
            )
        if self.variant == "code":
            self._join(ctx, groups, useful, len(rollouts))
            wanted = len(rollouts) // 2
            weights = [magnitude(rollout) ** self.alpha for _, rollout in useful]
            chosen = draw(ctx.rng("ssr-step"), weights, wanted, with_replacement=False)
            kept = [useful[i] for i in sorted(chosen)]
            return self._filled(ctx, with_only(groups, kept), wanted - len(kept), offset=CODE_OFFSET)
        result = self._filled(ctx, with_only(groups, useful), len(rollouts) - len(useful), offset=0.0)
        self._join(ctx, groups, useful, len(rollouts))
        return result

    def _join(self, ctx: StepContext, groups: Sequence[Group], useful: Sequence[tuple[int, Rollout]], num_rollouts: int) -> None:
        """Add this step's rollouts at the end of the queue; the oldest go."""
        longest = int(self.queue_share * num_rollouts)
        rows = [keep(ctx, groups[place].sample, rollout, **_credit(rollout)) for place, rollout in useful[-longest:]]
        self._queue = (self._queue + rows)[-longest:] if longest else self._queue

    def _filled(self, ctx: StepContext, groups: list[Group], num: int, *, offset: float) -> list[Group]:
        """The groups and `num` rollouts drawn from the queue, with replacement."""
        weights = [row["magnitude"] ** self.alpha + offset for row in self._queue]
        found = draw(ctx.rng("ssr-queue"), weights, num, with_replacement=True) if num > 0 else []
        ctx.metrics["ssr/replayed"] = float(len(found))
        return groups + [self._group(ctx, self._queue[i], place=len(groups) + n) for n, i in enumerate(found)]

    @staticmethod
    def _group(ctx: StepContext, row: Row, *, place: int) -> Group:
        sample, rollout = bring_back(ctx, row, place=place, index=0)
        rollout.advantage, rollout.token_advantages = row["advantage"], list(row["token_advantages"])
        return Group(sample, [rollout])

    def state_dict(self) -> dict[str, Any]:
        """The queue."""
        return {"queue": list(self._queue)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with it."""
        self._queue = list(state["queue"])


def _credit(rollout: Rollout) -> dict[str, Any]:
    """What the queue remembers beside the rollout itself."""
    return {
        "magnitude": magnitude(rollout),
        "advantage": rollout.advantage,
        "token_advantages": list(rollout.token_advantages),
    }
