"""The mixed objective `(1 - rho) J_fresh + rho J_replay` as weights of rollouts.

Every aggregator is a sum over rollouts divided by a count N over the whole step (rollouts, or trained tokens). The same
aggregator over a part S of the groups divides by N_S, so its J_S is the step's own aggregate with the weight N / N_S. Hence

    (1 - rho) J_fresh + rho J_replay  =  aggregate of  w L,   w = (1 - rho) N / N_fresh  or  rho N / N_replay.

With rho of equal groups replayed all weights are 1. It holds exactly with one optimiser step per RL step; with minibatches
each of them sees its own share of both sides, so it holds on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import REPLAY, Group, Rollout

TOKEN_COUNTED = frozenset({"aggregator.token_mean"})
"""Aggregators that divide by trained tokens; the others divide by rollouts. luffy_sum_norm divides by a constant only: its sum
is then the number of rollouts times the mixed objective of `constant_length`."""


@piece(
    "token_weight", "mixed_objective", formula="w = (1-rho) N/N_fresh on fresh groups, rho N/N_replay on groups with a stored rollout",
    source="ExGRPO, arXiv 2510.02245 (rho 0.5)",
)  # fmt: skip
@dataclass(frozen=True)
class MixedObjective:
    """Weighs groups with a stored rollout against the others; without both sides nothing changes."""

    rho: float = 0.5
    """Share of the objective that belongs to replayed questions."""

    def __post_init__(self) -> None:
        if not 0 < self.rho < 1:
            raise ValueError("rho must be between 0 and 1. ExGRPO uses 0.5.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Multiply every rollout's weight."""
        by_tokens = ctx.aggregator in TOKEN_COUNTED
        sides: dict[bool, list[Rollout]] = {True: [], False: []}
        for group in groups:
            trained = [r for r in group.live() if r.weight and r.length]
            sides[any(r.kind == REPLAY for r in trained)] += trained
        sizes = {side: sum(r.length if by_tokens else 1 for r in members) for side, members in sides.items()}
        if not all(sizes.values()):
            return
        for side, share in ((True, self.rho), (False, 1.0 - self.rho)):
            for rollout in sides[side]:
                rollout.weight *= share * sum(sizes.values()) / sizes[side]
