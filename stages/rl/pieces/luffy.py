"""LUFFY (arXiv 2504.14945): one member of every group is a teacher's worked response, scored and compared like the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.replay import put_in
from factory.stages.rl.rollouts import DEMO, EDITED, FRESH, Group, Rollout, Span

NOT_SAMPLED = -1
"""Weight version of a rollout that no engine wrote."""


@piece(
    "inject", "luffy", formula="group = G-1 fresh rollouts + 1 teacher trace; old log-prob of its tokens = 0",
    source="LUFFY, arXiv 2504.14945 (n_prefix 1, whole trace)", needs={"demonstrations"},
    caveat="G are generated and the last gives up its place, so that a group without a demonstration stays whole; a trace longer "
    "than max_new_tokens is left out, because a cut one has no answer",
)  # fmt: skip
@dataclass(frozen=True)
class TeacherTrace:
    """Puts the sample's demonstration into its group. A group that already holds a stored rollout keeps that one."""

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups, each with its demonstration where there is one that fits and could be verified."""
        found = {place: rollout for place, group in enumerate(groups) if (rollout := self._trace(ctx, group)) is not None}
        assert ctx.services is not None, "a run has services"
        ctx.services.score(ctx, [(groups[place].sample, rollout) for place, rollout in found.items()])
        placed = {place: rollout for place, rollout in found.items() if not rollout.is_masked}
        ctx.metrics["luffy/demonstrations"] = float(len(placed))
        ctx.metrics["luffy/right"] = sum(rollout.right for rollout in placed.values()) / max(len(placed), 1)
        return [put_in(group, placed[i], -1) if i in placed else group for i, group in enumerate(groups)]

    @staticmethod
    def _trace(ctx: StepContext, group: Group) -> Rollout | None:
        assert ctx.services is not None, "a run has services"
        if not group.rollouts or any(rollout.kind != FRESH for rollout in group.rollouts):
            return None
        text = ctx.services.demonstration(group.sample)
        if text is None:
            return None
        ids = ctx.services.turn(text)
        if len(ids) > ctx.max_new_tokens:
            ctx.metrics["luffy/too_long"] = ctx.metrics.get("luffy/too_long", 0.0) + 1
            return None
        last = group.rollouts[-1]
        return Rollout(
            place=last.place, index=last.index, ids=ids, logprobs=[0.0] * len(ids), finished=True, version=NOT_SAMPLED,
            kind=DEMO, spans=[Span(0, len(ids), "demo")],
        )  # fmt: skip


@piece(
    "advantage", "fresh_statistics", formula="(r_i - mean(fresh)) / (std(fresh) + eps), std with n-1; a std of 0 becomes 1",
    source="LUFFY's code, variant `split`, https://github.com/ElliottYan/LUFFY",
    caveat="LUFFY's default is the mean over the union (advantage group_mean)",
)  # fmt: skip
@dataclass(frozen=True)
class FreshStatistics:
    """Injected rollouts are measured by the policy's own group and do not move it."""

    by_std: bool = True
    """Divide by the standard deviation too."""
    eps: float = 1e-6
    """Added to the standard deviation, in reward units."""

    def __post_init__(self) -> None:
        if self.eps < 0:
            raise ValueError("eps must be 0 or more.")

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage; 0 in a group without a fresh live rollout."""
        for group in groups:
            mean, divisor = self._statistics([r.score for r in group.live() if r.kind in (FRESH, EDITED)])
            for rollout in group.rollouts:
                rollout.advantage = 0.0 if rollout.is_masked or mean is None else (rollout.score - mean) / divisor

    def _statistics(self, fresh: list[float]) -> tuple[float | None, float]:
        if not fresh:
            return None, 1.0
        if max(fresh) == min(fresh):
            # Exactly the common score, not the rounding error of a mean.
            return fresh[0], 1.0
        mean = math.fsum(fresh) / len(fresh)
        std = math.sqrt(math.fsum((score - mean) ** 2 for score in fresh) / (len(fresh) - 1))
        return mean, std + self.eps if self.by_std else 1.0
