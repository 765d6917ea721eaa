"""Rewards for short answers: relative to the group, to a target or to a budget. At most one of them in a stage.

Lengths are tokens that the policy wrote. "Right" is what the main verifier said. Every term is added to the rollout's
reward, which lies in [0, 1]. Masked rollouts have no part in any minimum, mean or share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.rewards.length import distinct_share
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout


def kimi_terms(lengths: Sequence[int], right: Sequence[bool]) -> list[float]:
    """`0.5 - (len - min) / (max - min)` for right answers, at most 0 of it for wrong ones; zeros when all are as long. [G]"""
    if not lengths or max(lengths) == min(lengths):
        return [0.0] * len(lengths)
    span = max(lengths) - min(lengths)
    terms = [0.5 - (length - min(lengths)) / span for length in lengths]
    return [term if ok else min(0.0, term) for term, ok in zip(terms, right, strict=True)]


@piece(
    "group_reward", "kimi_length", formula="weight * lam, lam = 0.5 - (len - min) / (max - min); wrong: min(0, lam)",
    source="Kimi k1.5, arXiv 2501.12599, sec. 2.3.3",
    caveat="the paper gives neither the weight nor when the term is switched on, so both are required",
)  # fmt: skip
@dataclass(frozen=True)
class KimiLength:
    """Shorter than the others of the group is better; off in the first part of the run, then constant."""

    weight: float
    """Reward units."""
    off_until: float
    """Share of the run in which the term is off, in [0, 1); 0: on from the first step."""

    def __post_init__(self) -> None:
        if self.weight <= 0 or not 0 <= self.off_until < 1:
            raise ValueError("weight must be above 0 and off_until in [0, 1).")

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add the term to every rollout that is not masked."""
        live = group.live()
        weight = self.weight if ctx.progress >= self.off_until else 0.0
        terms = kimi_terms([r.length for r in live], [r.right for r in live])
        for rollout, term in zip(live, terms, strict=True):
            rollout.shaping[self.key] = weight * term


def target_cosine(length: int, target: float) -> float:
    """`-0.25 (1 + cos(pi len / target))` below `2 target`, -0.5 from there: 0 at the target, -0.5 at length 0."""
    return -0.25 * (1.0 + math.cos(math.pi * length / target)) if length < 2.0 * target else -0.5


def fallback_cosine(length: int, target: float, limit: float) -> float:
    """Without a right answer to aim at: -0.25 at length 0, 0 from `target` on, -0.25 from `limit` on."""
    if length >= limit:
        return -0.25
    return -0.125 * (1.0 + math.cos(math.pi * length / target)) if length < target else 0.0


def repetition_penalty(text: str, ngram: int, factor: float) -> float:
    """`-factor * (1 - distinct / all)` over the text's word n-grams; 0 for fewer than `ngram` words."""
    return -factor * (1.0 - distinct_share(text.lower().split(), ngram))


@piece(
    "group_reward", "vl_cogito_length",
    formula="wrong: -0.25 (1 + cos(pi len / L*)), -0.5 from 2 L*, plus repetition penalty; L* = mean length of the right; right: 0",
    source="VL-Cogito, arXiv 2507.22607 (released code)",
)  # fmt: skip
@dataclass(frozen=True)
class VlCogitoLength:
    """Wrong answers are drawn to the length of the group's right ones. The source uses it in its last (hard) stage only."""

    target: int = 750
    """Tokens that wrong answers are drawn to when no answer of the group is right."""
    limit: int = 4096
    """Tokens from which such an answer is too long; the source's generation limit."""
    ngram: int = 20
    """Words of an n-gram in the repetition penalty."""
    repetition: float = 0.5
    """Most that repetition takes away, reward units."""

    def __post_init__(self) -> None:
        if not 0 < self.target < self.limit or self.ngram < 1 or self.repetition < 0:
            raise ValueError("want 0 < target < limit, ngram 1 or more and repetition 0 or more.")

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add the term to every rollout that is not masked."""
        live = group.live()
        lengths = [rollout.length for rollout in live if rollout.right]
        aim = sum(lengths) / len(lengths) if lengths else 0.0
        for rollout in live:
            rollout.shaping[self.key] = 0.0 if rollout.right else self._wrong(rollout, aim)

    def _wrong(self, rollout: Rollout, aim: float) -> float:
        cosine = target_cosine(rollout.length, aim) if aim else fallback_cosine(rollout.length, self.target, self.limit)
        return cosine + repetition_penalty(rollout.text, self.ngram, self.repetition)


@piece(
    "group_reward", "shortest_bonus", formula="+bonus for the shortest right rollout, if longer than min_length",
    source="Observe-R1, arXiv 2505.12432 (released code)",
    caveat="the code gives the bonus to rollout 0 of an all-wrong group; here nobody gets it. Equally short ones all get it",
)  # fmt: skip
@dataclass(frozen=True)
class ShortestBonus:
    """Rewards the briefest right answer that still reasons."""

    bonus: float = 0.2
    """Reward units."""
    min_length: int = 100
    """Tokens; an answer this short gets nothing."""

    def __post_init__(self) -> None:
        if self.bonus <= 0 or self.min_length < 0:
            raise ValueError("bonus must be above 0 and min_length 0 or more.")

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add the bonus; all others get 0."""
        live = group.live()
        shortest = min((rollout.length for rollout in live if rollout.right), default=0)
        for rollout in live:
            wins = rollout.right and rollout.length == shortest > self.min_length
            rollout.shaping[self.key] = self.bonus if wins else 0.0


@piece(
    "group_reward", "dast_length",
    formula="x = (len - Lb) / Lb, Lb = p Lr + (1 - p) Lmax; full reward: max(a x + b, 0.1), others: min(0.9 x - 0.1, -0.1)",
    source="DAST as in UI-R1-E, arXiv 2503.21620 (released code)",
)  # fmt: skip
@dataclass(frozen=True)
class DastLength:
    """A length budget that shrinks from the longest answer to the right ones' mean as the group gets better.

    "Full reward" is a mixture value of 1: every weighted verifier gave all it can.
    """

    a: float = -0.5
    b: float = 0.5

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add the term to every rollout that is not masked."""
        live = group.live()
        if not live:
            return
        is_full = [rollout.value >= 1.0 - 1e-9 for rollout in live]
        full = [rollout.length for rollout, ok in zip(live, is_full, strict=True) if ok]
        share, mean = len(full) / len(live), sum(full) / len(full) if full else 0.0
        budget = max(share * mean + (1.0 - share) * max(rollout.length for rollout in live), 1.0)
        for rollout, ok in zip(live, is_full, strict=True):
            rollout.shaping[self.key] = self.term((rollout.length - budget) / budget, ok)

    def term(self, overrun: float, is_full: bool) -> float:
        """Reward of a relative overrun of the budget (negative: shorter)."""
        return max(self.a * overrun + self.b, 0.1) if is_full else min(0.9 * overrun - 0.1, -0.1)


@piece(
    "reward", "efficient_length", formula="weight * clip(alpha (budget - len) + delta, 0, 1)",
    source="ReVisual-R1, arXiv 2506.04207", caveat="the budget depends on the task and is required",
)  # fmt: skip
@dataclass(frozen=True)
class EfficientLength:
    """A ramp around a budget of tokens."""

    budget: int
    """Tokens at which the ramp passes `delta`."""
    alpha: float = 0.005
    """Slope per token."""
    delta: float = 0.5
    weight: float = 0.05
    """Reward units."""

    def __post_init__(self) -> None:
        if self.budget < 1 or self.alpha <= 0 or self.weight <= 0:
            raise ValueError("budget must be 1 or more, alpha and weight above 0.")

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """In [0, weight]."""
        return self.weight * min(max(self.alpha * (self.budget - rollout.length) + self.delta, 0.0), 1.0)


@piece(
    "reward", "repetition", formula="-factor * (1 - distinct n-grams / all n-grams)",
    source="VL-Cogito, arXiv 2507.22607 (n 20, factor 0.5); Perception-R1, arXiv 2506.07218 (n 20, factor 2)",
)  # fmt: skip
@dataclass(frozen=True)
class Repetition:
    """Takes reward from looping text."""

    ngram: int = 20
    """Words of an n-gram."""
    factor: float = 0.5
    """Most that it takes away, reward units."""

    def __post_init__(self) -> None:
        if self.ngram < 1 or self.factor <= 0:
            raise ValueError("ngram must be 1 or more and factor above 0.")

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """In [-factor, 0]."""
        return repetition_penalty(rollout.text, self.ngram, self.factor)
