"""How much of each set of prompts: MoDoMoDo's mixture of data sets, and fixed shares of difficulty."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.decks import Decks, Heap, check_names, check_weights, has_unseen, pick
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.tiers import META, TierRule, check_by, eligible_only
from factory.stages.rl.pool import PromptPool


def set_of(sample: Sample, by: str) -> str:
    """The set that a sample belongs to; `none` where the field is empty or missing."""
    value = sample.meta.get(by.removeprefix(META)) if by.startswith(META) else getattr(sample, by)
    return "none" if value in (None, "") else str(value)


@piece(
    "sampler", "mix", formula="draw a set with probability w_k / sum w, then an unseen prompt of it",
    source="MoDoMoDo (guides B9.6); uniform weights are its baseline",
    caveat="weights are learned from past runs with `factory mix fit` and `factory mix search`",
)  # fmt: skip
@dataclass
class Mix:
    """A mixture of data sets by weight."""

    by: str = "source"
    """What makes a set: `source`, `task`, or `meta.KEY`, a field of the samples."""
    weights: dict[str, float] = field(default_factory=dict)
    """Set -> weight, for every set of the pool; they need not sum to 1. Empty: all sets alike."""
    on_exhausted: str = "stop"
    """When the set that was drawn has no unseen prompt left: `stop` ends the stage after this step, which is filled from the other
    sets (the paper); `cycle` goes through the set again."""

    def __post_init__(self) -> None:
        check_by(self.by, ("source", "task"))
        if self.on_exhausted not in ("stop", "cycle"):
            raise ValueError("on_exhausted must be stop or cycle.")
        if self.weights:
            check_weights("weights", self.weights)
        self._decks = Decks()
        self.is_over = False

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """The next `num` eligible places. Raises ConfigError when weights and sets do not match, TrainingError when none is left."""
        sets: dict[str, list[int]] = {}
        for place, sample in enumerate(pool.samples):
            sets.setdefault(set_of(sample, self.by), []).append(place)
        if self.weights:
            check_names("pieces.sampler.mix.weights", self.weights, sets)
        weights = self.weights or dict.fromkeys(sets, 1.0)
        left = {name: places for name, places in eligible_only(pool, sets).items() if weights[name] > 0}
        found = self._decks.deal(ctx, left, lambda rng, heaps: self._choose(rng, heaps, weights), num)
        for name, places in left.items():
            ctx.metrics[f"mix_unseen/{name}"] = float(sum(place not in self._decks.times for place in places))
        return found

    def _choose(self, rng: random.Random, heaps: Mapping[str, Heap], weights: Mapping[str, float]) -> str:
        if self.on_exhausted == "cycle":
            return pick(rng, {name: weights[name] for name in heaps})
        name = pick(rng, weights)
        if name in heaps and has_unseen(heaps[name]):
            return name
        self.is_over = True
        unseen = [name for name, heap in heaps.items() if has_unseen(heap)]
        return pick(rng, {name: weights[name] for name in unseen or heaps})

    def state_dict(self) -> dict[str, Any]:
        """Draws per prompt."""
        return {**self._decks.state_dict(), "is_over": self.is_over}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._decks.load_state_dict(state)
        self.is_over = bool(state["is_over"])


@piece(
    "sampler", "difficulty_pool", formula="each tier its share, exactly: credit_k += share_k, the largest credit draws and pays 1",
    source="easy, medium and hard pools (guides B9.2, B3.8); shares are the user's",
    caveat="no source gives shares; a tier with no eligible prompt hands its share to the others while it has none",
)  # fmt: skip
@dataclass
class DifficultyPool:
    """Fixed shares of easy, medium and hard prompts."""

    shares: dict[str, float]
    """Tier -> share, for every tier of the pool; they need not sum to 1."""
    by: str = "offline"
    """`offline` (a select stage's pass rates), `latest`, or `meta.KEY`, a field of the samples."""
    easy_from: float = 1.0
    """Rates from here on are easy (MMedAgent-RL)."""
    hard_to: float = 0.0
    """Rates up to here are hard (MMedAgent-RL)."""
    unknown: str = "medium"
    """Tier of a prompt of which nothing is known (ours)."""

    def __post_init__(self) -> None:
        check_weights("shares", self.shares)
        self._rule = TierRule(self.by, self.easy_from, self.hard_to, self.unknown)
        self._decks = Decks()
        self._credits: dict[str, float] = {}

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """The next `num` eligible places. Raises ConfigError when shares and tiers do not match, TrainingError when none is left."""
        sets = self._rule.sets(pool, "pieces.sampler.difficulty_pool")
        if self._rule.by.startswith(META):
            check_names("pieces.sampler.difficulty_pool.shares", self.shares, sets)
        else:
            # With rates a tier may be empty today and not tomorrow.
            check_names("pieces.sampler.difficulty_pool.shares", self.shares, {"easy": [], "medium": [], "hard": []})
        left = {name: places for name, places in eligible_only(pool, sets).items() if self.shares[name] > 0}
        return self._decks.deal(ctx, left, self._choose, num)

    def _choose(self, rng: random.Random, heaps: Mapping[str, Heap]) -> str:
        shares = {name: self.shares[name] for name in heaps}
        total = sum(shares.values())
        for name, share in shares.items():
            self._credits[name] = self._credits.get(name, 0.0) + share / total
        # 1e-9: equal credits go by order, not by rounding.
        name = max(shares, key=lambda name: round(self._credits[name], 9))
        self._credits[name] -= 1.0
        return name

    def state_dict(self) -> dict[str, Any]:
        """Draws per prompt and credits per tier."""
        return {**self._decks.state_dict(), "credits": dict(self._credits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._decks.load_state_dict(state)
        self._credits = {name: float(credit) for name, credit in state["credits"].items()}
