"""Samplers that prefer some prompts by a weight of their own: Kimi's priority, and the spread of the rewards."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.eligible import check_cut, undecided
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pool import PromptPool


def draw_by_weight(rng: random.Random, places: Sequence[int], weights: Sequence[float], num: int) -> list[int]:
    """At most `num` different places of positive weight, one after the other with probability proportional to the weights left.

    Exponential clocks: the place whose clock of rate w rings first is the first draw, and so on (Efraimidis and Spirakis 2006).
    """
    clocks = [(rng.expovariate(1.0) / weight, place) for place, weight in zip(places, weights, strict=True) if weight > 0]
    return [place for _, place in heapq.nsmallest(num, clocks)]


@dataclass
class StepDraws:
    """Draws of one step, which may come in several calls (refills): no prompt twice before all others of positive weight came.

    Lives for one step only, so no checkpoint needs it.
    """

    step: int = -1
    num: int = 0
    gone: set[int] = field(default_factory=set)

    def draw(self, ctx: StepContext, places: Sequence[int], weights: Sequence[float], num: int) -> list[int]:
        """`num` places by weight. When all weights are 0, all places count alike."""
        if ctx.step != self.step:
            self.step, self.num, self.gone = ctx.step, 0, set()
        if not any(weight > 0 for weight in weights):
            weights = [1.0] * len(places)
        found: list[int] = []
        while len(found) < num:
            left = [(place, weight) for place, weight in zip(places, weights, strict=True) if place not in self.gone]
            rng = ctx.rng(f"by-weight-{self.num}")
            drawn = draw_by_weight(rng, [place for place, _ in left], [weight for _, weight in left], num - len(found))
            if not drawn:
                self.gone.clear()
                continue
            self.gone.update(drawn)
            self.num += len(drawn)
            found += drawn
        return found


@piece(
    "sampler", "kimi_priority", formula="P(i) ~ 1 - s_i, s_i the latest success rate", source="Kimi k1.5 (guides B9.2)",
    caveat="a prompt solved by a whole group has weight 0 and comes back only when all have; the paper labels every prompt with the "
    "pass rate of 10 samples beforehand: a select stage with rollouts=10 and prompts_from do that here",
)  # fmt: skip
@dataclass
class KimiPriority:
    """Prompts that fail come more often; optionally the pool opens from easy to hard first."""

    unseen: float = 0.5
    """Success rate taken for a prompt of which nothing is known, in [0, 1] (ours; the paper's all have a label)."""
    opening: float = 0.0
    """Curriculum: over this share of the run the pool opens from the easiest prompts to all of them, evenly. 0: open from the start.
    (The paper has no numbers for it.) Difficulty is the offline pass rate, without one the latest."""

    def __post_init__(self) -> None:
        if not 0 <= self.unseen <= 1 or not 0 <= self.opening <= 1:
            raise ValueError("unseen and opening must be in [0, 1].")
        self._draws = StepDraws()

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """`num` eligible places. Raises TrainingError when none is eligible."""
        places = self._opened(ctx.progress, pool, pool.eligible_places(), num)
        ctx.metrics["pool_open_share"] = len(places) / len(pool)
        rates = [pool.stats[place].pass_rate for place in places]
        return self._draws.draw(ctx, places, [1.0 - (self.unseen if rate is None else rate) for rate in rates], num)

    def _opened(self, progress: float, pool: PromptPool, places: list[int], num: int) -> list[int]:
        """The easiest `progress / opening` of the places, at least `num`, in pool order."""
        if progress >= self.opening:
            return places
        size = max(num, math.ceil(progress / self.opening * len(places)))
        return sorted(sorted(places, key=lambda place: (-self._ease(pool, place), place))[:size])

    def _ease(self, pool: PromptPool, place: int) -> float:
        stat = pool.stats[place]
        rate = stat.offline_rate if stat.offline_rate is not None else stat.pass_rate
        return self.unseen if rate is None else rate


@piece(
    "sampler", "variance", formula="P(i) ~ std_i for std_i >= the q-quantile (or the `top` largest), else 0",
    source="Temporal-R1 (guides B9.5): samples of high reward variance; drawing by it is ours",
    caveat="the paper selects once and offline (pool.variance_top with a select stage); its threshold is not published",
)  # fmt: skip
@dataclass
class VarianceSampler:
    """Prompts on which the policy is undecided come more often. Give exactly one of `q` and `top`; no source has a value."""

    q: float | None = None
    """In [0, 1): 0.5 keeps the upper half of the measured prompts."""
    top: int | None = None
    """How many measured prompts to keep; equals go by their place in the pool."""

    def __post_init__(self) -> None:
        check_cut(self.q, self.top)
        self._draws = StepDraws()

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """`num` eligible places. A prompt not measured yet counts as the most undecided one known."""
        places = pool.eligible_places()
        kept = {place: pool.stats[place].spread for place in undecided([pool.stats[i] for i in places], self.q, self.top)}
        unknown = max(kept.values(), default=1.0)
        weights = [unknown if pool.stats[place].spread is None else kept.get(place, 0.0) for place in places]
        return self._draws.draw(ctx, places, weights, num)
