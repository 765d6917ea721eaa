"""SRPO: think and answer, reflect, think and answer again (arXiv 2506.01713). What the two passes are worth.

The released comparison chains pay wrong-then-right 0 and punish wrong-then-wrong; the table here is the paper's intent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.contracts import Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.answer_text import tokens_before
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout, copied

ACCURACY = {(True, True): 0.75, (False, True): 1.0, (True, False): -0.25, (False, False): 0.0}
"""(first answer right, second answer right) -> reward."""


def first_pass_end(text: str, closes: str) -> int | None:
    """Characters up to the end of the first answer, mark included; None unless a second answer is closed after it."""
    first = text.find(closes)
    if first < 0 or text.find(closes, first + len(closes)) < 0:
        return None
    return first + len(closes)


def two_passes(text: str, opens: str, closes: str) -> tuple[str, str] | None:
    """The texts of the two passes (what stands between belongs to neither); None without two answers."""
    end = first_pass_end(text, closes)
    if end is None:
        return None
    start = text.find(opens, end)
    return text[:end], text[start if start >= 0 else end :]


def two_pass_length(length: int, first: int, weight: float = 0.1) -> float:
    """`weight * exp(-((len - Tg) / (Tmax - Tg))^2)`, Tg = 2 n1, Tmax = 2.5 n1. `first`: n1, tokens of the first pass."""
    return weight * math.exp(-(((length - 2.0 * first) / (0.5 * first)) ** 2))


@piece(
    "reward", "srpo_length", formula="weight * exp(-((len - 2 n1) / (0.5 n1))^2), n1 = tokens of the first pass; 0 without two passes",
    source="SRPO, arXiv 2506.01713",
)  # fmt: skip
@dataclass(frozen=True)
class SrpoLength:
    """Best when reflection and second pass are together as long as the first."""

    weight: float = 0.1
    """Reward units."""
    closes: str = "</answer>"
    """The mark that ends an answer."""

    def __post_init__(self) -> None:
        if self.weight <= 0 or not self.closes:
            raise ValueError("weight must be above 0 and closes a text.")

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """In [0, weight]."""
        end = first_pass_end(rollout.text, self.closes)
        if end is None:
            return 0.0
        assert ctx.services is not None, "a run has services"
        return two_pass_length(rollout.length, tokens_before(ctx.services.decode, rollout.ids, end), self.weight)


@piece(
    "hook", "srpo_accuracy",
    formula="weight x (right-right 0.75, wrong-right 1, right-wrong -0.25, wrong-wrong 0), in place of the mixture's value",
    source="SRPO, arXiv 2506.01713",
    caveat="the source does not say what a completion without two answers earns; here it is 0",
)  # fmt: skip
@dataclass(frozen=True)
class SrpoAccuracy:
    """Verifies both answers on their own, and pays for mending a wrong one most. A group's `right` is the second answer's."""

    weight: float = 0.5
    """Reward units of accuracy in the source's sum, whose other half is the format."""
    opens: str = "<think>"
    """The mark that begins a pass."""
    closes: str = "</answer>"
    """The mark that ends an answer."""
    when = "after_reward"

    def __post_init__(self) -> None:
        if self.weight <= 0 or not self.closes or not self.opens:
            raise ValueError("weight must be above 0, opens and closes texts.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `outcome` and `right` of every rollout; one with an answer that cannot be verified is masked."""
        assert ctx.services is not None, "a run has services"
        passes: list[tuple[Rollout, tuple[Sample, Rollout], tuple[Sample, Rollout]]] = []
        for group in groups:
            for rollout in group.rollouts:
                texts = two_passes(rollout.text, self.opens, self.closes)
                if texts is None:
                    rollout.outcome, rollout.right = 0.0, False
                else:
                    first, second = (replace(copied(rollout), text=text) for text in texts)
                    passes.append((rollout, (group.sample, first), (group.sample, second)))
        ctx.services.verify([pair for _, first, second in passes for pair in (first, second)])
        for rollout, (_, first), (_, second) in passes:
            rollout.right = second.right
            if first.is_masked or second.is_masked:
                rollout.reward = first.reward if first.is_masked else second.reward
            else:
                rollout.outcome = self.weight * ACCURACY[first.right, second.right]
