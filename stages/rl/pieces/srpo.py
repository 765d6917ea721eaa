"""SRPO: think and answer, reflect, think and answer again (arXiv 2506.01713). What the two passes are worth.

The released comparison chains pay wrong-then-right 0 and punish wrong-then-wrong; the table here is the paper's intent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.answer_text import tokens_before
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout

ACCURACY = {(True, True): 0.75, (False, True): 1.0, (True, False): -0.25, (False, False): 0.0}
"""(first answer right, second answer right) -> reward."""


def first_pass_end(text: str, closes: str) -> int | None:
    """Characters up to the end of the first answer, mark included; None unless a second answer is closed after it."""
    first = text.find(closes)
    if first < 0 or text.find(closes, first + len(closes)) < 0:
        return None
    return first + len(closes)


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
    "hook", "srpo_accuracy", formula="right-right 0.75, wrong-right 1, right-wrong -0.25, wrong-wrong 0, times weight; in place of the value",
    source="SRPO, arXiv 2506.01713", needs={"more_verification"},
    caveat="a completion without two answers keeps the mixture's value; the rest of the reward (format) is added by other pieces",
)  # fmt: skip
@dataclass(frozen=True)
class SrpoAccuracy:
    """Replaces the value by what two answers are worth; the first one is verified on its own."""

    weight: float = 0.5
    """Reward units of accuracy in the source's sum; the format has 0.5, too."""
    closes: str = "</answer>"
    """The mark that ends an answer."""
    when = "after_reward"

    def __post_init__(self) -> None:
        if self.weight <= 0 or not self.closes:
            raise ValueError("weight must be above 0 and closes a text.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `outcome` of this process's two-pass rollouts; one whose first answer cannot be verified is left as it is."""
