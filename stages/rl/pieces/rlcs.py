"""GLM-4.1V's RLCS (guides B9.1): tiers drawn by how undecided the policy is on them, and more prompts instead of refills.

Both averages forget at a rate that the report does not give, so `decay` is required. Expansion and DAPO's dynamic resampling
(supply=refill) are two answers to one problem; they share a slot, so one run has one of them.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.pieces.decks import Decks, Heap, pick
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.supply import ON_SPENT
from factory.stages.rl.pieces.tiers import TierRule, eligible_only
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.rollouts import Group


def averaged(before: float | None, new: float, decay: float) -> float:
    """`decay * before + (1 - decay) * new`; the first value as it is."""
    return new if before is None else decay * before + (1.0 - decay) * new


def check_decay(decay: float) -> None:
    """Raises ValueError unless it is in [0, 1)."""
    if not 0 <= decay < 1:
        raise ValueError("decay must be in [0, 1); 0 looks at the last step only.")


@piece(
    "sampler", "rlcs", formula="P(tier) ~ #eligible * exp(-((EMA(p_tier) - 0.5) / width)^2 / 2)",
    source="RLCS: GLM-4.1V-Thinking (guides B9.1): tiers re-weighted by online pass rates so that mid difficulty dominates",
    caveat="the weight function and the decay are not published: the bell at 0.5 and its width are ours, decay is required",
)  # fmt: skip
@dataclass
class Rlcs:
    """Curriculum sampling. With by=offline or meta.KEY tiers stay; with by=latest prompts move between them."""

    decay: float
    """Of the moving average of a tier's pass rate, per step."""
    width: float = 0.25
    """Of the bell, in pass rate: a tier at 0 or 1 then weighs 0.14 of one at 0.5 (ours)."""
    by: str = "offline"
    """`offline` (a select stage's pass rates), `latest`, or `meta.KEY`, a field of the samples."""
    easy_from: float = 1.0
    """Rates from here on are easy (MMedAgent-RL)."""
    hard_to: float = 0.0
    """Rates up to here are hard (MMedAgent-RL)."""
    unknown: str = "medium"
    """Tier of a prompt of which nothing is known (ours)."""

    def __post_init__(self) -> None:
        check_decay(self.decay)
        if self.width <= 0:
            raise ValueError("width must be above 0.")
        self._rule = TierRule(self.by, self.easy_from, self.hard_to, self.unknown)
        self._decks = Decks()
        self._rates: dict[str, float] = {}
        self._tier_of: dict[str, str] = {}

    def weight(self, rate: float) -> float:
        """The bell's height at a pass rate; 1 at 0.5."""
        return math.exp(-(((rate - 0.5) / self.width) ** 2) / 2)

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """The next `num` eligible places. A tier starts from its offline rates, without any at 0.5. Raises TrainingError."""
        sets = self._rule.sets(pool, "pieces.sampler.rlcs")
        for name, places in sets.items():
            known = [rate for place in places if (rate := pool.stats[place].offline_rate) is not None]
            if known and name not in self._rates:
                self._rates[name] = math.fsum(known) / len(known)
        left = eligible_only(pool, sets)
        weights = {name: len(places) * self.weight(self._rates.get(name, 0.5)) for name, places in left.items()}
        total = sum(weights.values()) or 1.0
        ctx.metrics |= {f"rlcs_weight/{name}": weight / total for name, weight in weights.items()}

        def choose(rng: random.Random, heaps: Mapping[str, Heap]) -> str:
            return pick(rng, {name: weights[name] for name in heaps})

        found = self._decks.deal(ctx, left, choose, num)
        tier_at = {place: name for name, places in sets.items() for place in places}
        self._tier_of |= {pool.samples[place].id: tier_at[place] for place in found}
        return found

    def observe(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Take in the pass rates of the step, tier by tier; groups of masked rollouts only are left out."""
        found: dict[str, list[float]] = defaultdict(list)
        for group in groups:
            rate = group.pass_rate()
            if rate is not None and group.sample.id in self._tier_of:
                found[self._tier_of[group.sample.id]].append(rate)
        for name, rates in found.items():
            self._rates[name] = averaged(self._rates.get(name), math.fsum(rates) / len(rates), self.decay)
        ctx.metrics |= {f"rlcs_rate/{name}": rate for name, rate in self._rates.items()}
        self._tier_of = {}

    def state_dict(self) -> dict[str, Any]:
        """Draws per prompt and the average rate of each tier."""
        return {**self._decks.state_dict(), "rates": dict(self._rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._decks.load_state_dict(state)
        self._rates, self._tier_of = {name: float(rate) for name, rate in state["rates"].items()}, {}


@piece(
    "supply", "expansion", formula="draw ceil(B * min(cap, 1 / (1 - EMA(invalid)))) prompts once, keep the B most balanced groups",
    source="RLCS: GLM-4.1V-Thinking (guides B9.1); B15 row RLCS expansion",
    caveat="the decay is not published, hence required; the cap is ours. Excludes supply=refill (guides C5): one slot, one answer",
)  # fmt: skip
@dataclass
class Expansion:
    """As many more prompts as lately turned out useless: one shot, no wait for refills."""

    decay: float
    """Of the moving average of the invalid share, per step."""
    cap: float = 4.0
    """Most times the wanted number that is drawn (ours): reached when three groups of four are useless."""
    on_spent: str = "train_smaller"
    """When fewer useful groups come than wanted: `train_smaller`, `error` or `stop`."""

    def __post_init__(self) -> None:
        check_decay(self.decay)
        if self.cap < 1:
            raise ValueError("cap must be 1 or more.")
        if self.on_spent not in ON_SPENT:
            raise ValueError(f"on_spent={self.on_spent!r} is not known. Choose one of: {', '.join(ON_SPENT)}.")
        self._invalid: float | None = None

    @property
    def drop_equal(self) -> bool:
        """Useless groups are what it makes up for."""
        return True

    @property
    def max_refills(self) -> int:
        """None."""
        return 0

    @property
    def expansion(self) -> float:
        """`1 / (1 - EMA(invalid))`, from 1 to `cap`; 1 before the first step."""
        invalid = self._invalid or 0.0
        return self.cap if 1.0 - invalid <= 1.0 / self.cap else 1.0 / (1.0 - invalid)

    def first_draw(self, wanted: int) -> int:
        """Prompts of this step's draw."""
        # The tiny subtraction keeps 2.0000000001 x 16 from becoming 33.
        return max(wanted, math.ceil(self.expansion * wanted - 1e-6))

    def largest_draw(self, wanted: int) -> int:
        """Prompts of a draw at the cap; what the plan counts with."""
        return max(wanted, math.ceil(self.cap * wanted - 1e-6))

    def choose(self, useful: list[Group], wanted: int) -> list[Group]:
        """The `wanted` groups of largest variance (for right and wrong: pass rates nearest 1/2), in the order they were drawn."""
        order = sorted(range(len(useful)), key=lambda i: (-_variance(useful[i]), i))
        return [useful[i] for i in sorted(order[:wanted])]

    def observe(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Take in the share of groups without spread; groups with fewer than two live rollouts say nothing."""
        known = [group for group in groups if len(group.live()) >= 2]
        if known:
            share = sum(not has_spread(group.values()) for group in known) / len(known)
            self._invalid = averaged(self._invalid, share, self.decay)
        ctx.metrics["expansion"] = self.expansion

    def state_dict(self) -> dict[str, Any]:
        """The average so far."""
        return {"invalid": self._invalid}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._invalid = None if state["invalid"] is None else float(state["invalid"])


def _variance(group: Group) -> float:
    """Population variance of the live values, rounded so that equal groups compare equal."""
    values = [value for value in group.values() if value is not None]
    mean = math.fsum(values) / len(values)
    return round(math.fsum((value - mean) ** 2 for value in values) / len(values), 12)
