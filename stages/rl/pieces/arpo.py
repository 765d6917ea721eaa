"""ARPO (arXiv 2505.16282): a group that failed throughout gets one of the prompt's earlier successes, before the advantage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.replay import Row, bring_back, keep, put_in
from factory.stages.rl.rollouts import FRESH, Group


@piece(
    "inject", "arpo", needs={"behaviour_logprobs"},
    formula="std(r) < max_std and mean(r) < max_mean: r_1 := a random one of the prompt's last 8 rollouts with score > 0.1",
    source="ARPO, arXiv 2505.16282; https://github.com/dvlab-research/ARPO",
    caveat="std is the population's; both are of the verifiers' value, without added terms. The code stores under one task field and "
    "looks up by another; here both are the sample's id",
)  # fmt: skip
@dataclass
class StoredSuccess:
    """A queue of successes per prompt. This step's own are added after the update, so none is replayed in its own batch."""

    max_std: float = 0.05
    max_mean: float = 0.2
    min_score: float = 0.1
    """A rollout is stored when its value is above it."""
    length: int = 8
    """Rollouts kept per prompt; the oldest go first."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.max_std <= 0:
            raise ValueError("length must be 1 or more and max_std above 0.")
        self._stored: dict[str, list[Row]] = {}

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups; failed ones with a stored success in their first place."""
        rng = ctx.rng("arpo")
        result = list(groups)
        num_replayed = 0
        for number, group in enumerate(groups):
            stored = self._stored.get(group.sample.id)
            if stored and self._has_failed(group):
                first = group.rollouts[0]
                _, rollout = bring_back(ctx, rng.choice(stored), place=first.place, index=first.index)
                result[number] = put_in(group, rollout, 0)
                num_replayed += 1
        ctx.metrics["arpo/replayed"] = float(num_replayed)
        return result

    def _has_failed(self, group: Group) -> bool:
        values = [rollout.value for rollout in group.live()]
        if not values:
            return False
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return std < self.max_std and mean < self.max_mean

    def observe(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Store what this step sampled and scored well."""
        for group in groups:
            rows = [keep(ctx, group.sample, r) for r in group.live() if r.kind == FRESH and r.value > self.min_score]
            if rows:
                self._stored[group.sample.id] = (self._stored.get(group.sample.id, []) + rows)[-self.length :]

    def state_dict(self) -> dict[str, Any]:
        """The queues."""
        return {"stored": dict(self._stored)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with them."""
        self._stored = {name: list(rows) for name, rows in state["stored"].items()}


@piece(
    "resample", "drop_equal", formula="groups whose scores are all equal are left out",
    source="ARPO, arXiv 2505.16282; DAPO's filter, arXiv 2503.14476, after rollouts were put in instead of before",
)  # fmt: skip
@dataclass(frozen=True)
class DropEqual:
    """The filter for stages that inject: `supply` would drop a group before its stored success arrives."""

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups with spread."""
        return [group for group in groups if has_spread(group.scores())]
