"""GRPO-CARE: a bonus for right answers that a slow copy of the policy also believes in (arXiv 2506.16141).

The reference is an exponential moving average of the policy (`reference.ema`); it scores and is not a KL target. The
source trains without KL and without a ratio clip, with one update per batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.answer_text import answer_span, last_turn, tokens_over
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout


@piece(
    "reference", "ema", formula="every `every` steps: ref = decay * ref + (1 - decay) * policy", needs={"ema_reference"},
    source="GRPO-CARE, arXiv 2506.16141 (released code)",
)  # fmt: skip
@dataclass(frozen=True)
class EmaReference:
    """A moving average of the trained weights, kept in float32; with an adapter, of the adapter alone."""

    decay: float = 0.995
    every: int = 10
    """RL steps between two updates of the average."""

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1 or self.every < 1:
            raise ValueError("decay must be in (0, 1) and every 1 or more.")


def confidence(mean_logprob: float, cap: float = 0.95) -> float:
    """`min(exp(mean_logprob), cap)`: the geometric mean probability of the answer's tokens, in (0, cap]."""
    return min(math.exp(mean_logprob), cap)


def accurate(accuracy: Sequence[float], least: float = 0.1) -> list[int]:
    """Places of the scores above `least` that are no lower than the mean of all."""
    if not accuracy:
        return []
    # Equal scores must all pass, whatever their mean rounds to.
    mean = math.fsum(accuracy) / len(accuracy) - 1e-12
    return [i for i, score in enumerate(accuracy) if score > least and score >= mean]


def consistent(confidences: Sequence[float | None], slack: float = 0.01) -> list[bool]:
    """Whose confidence is at least the mean of the known ones less `slack`; None (no answer found) never is."""
    known = [one for one in confidences if one is not None]
    threshold = math.fsum(known) / len(known) - slack if known else 0.0
    return [one is not None and one >= threshold for one in confidences]


@piece(
    "group_reward", "care", needs={"ref_logprobs"},
    formula="+coef * acc_i for accurate rollouts with conf_i >= mean conf - slack; conf = min(exp(mean ref logp of the answer), cap)",
    source="GRPO-CARE, arXiv 2506.16141 (released code; its run sets coef 0.5, the code's default is 1)",
)  # fmt: skip
@dataclass(frozen=True)
class ConsistencyBonus:
    """Right answers that the reference finds as likely as the other right ones earn more."""

    coef: float = 0.5
    cap: float = 0.95
    """Highest confidence that counts."""
    slack: float = 0.01
    min_accuracy: float = 0.1
    """Accuracy has to be above this, and no lower than the group's mean."""
    opens: str = "<answer>"
    """Mark before the answer; empty: the answer begins with the completion."""
    closes: str = "</answer>"
    """Mark after the answer; empty or missing: it ends with the completion."""

    def __post_init__(self) -> None:
        if self.coef <= 0 or not 0 < self.cap <= 1 or self.slack < 0:
            raise ValueError("coef must be above 0, cap in (0, 1] and slack 0 or more.")

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add the bonus; all others get 0."""
        live = group.live()
        accuracy = [accuracy_of(ctx, group, rollout) for rollout in live]
        chosen = accurate(accuracy, self.min_accuracy)
        confidences = self._confidences(ctx, group, [live[i] for i in chosen])
        for rollout in live:
            rollout.shaping[self.key] = 0.0
        for i, is_consistent in zip(chosen, consistent(confidences, self.slack), strict=True):
            live[i].shaping[self.key] = self.coef * accuracy[i] if is_consistent else 0.0

    def _confidences(self, ctx: StepContext, group: Group, rollouts: Sequence[Rollout]) -> list[float | None]:
        """None where no answer is found."""
        assert ctx.services is not None, "declared as a need"
        places = [self.answer_tokens(ctx, rollout) for rollout in rollouts]
        asked = [i for i, tokens in enumerate(places) if tokens]
        found: list[float | None] = [None] * len(rollouts)
        if asked:
            logprobs = ctx.services.logprobs([(group.sample, rollouts[i]) for i in asked], "reference")
            for i, own in zip(asked, logprobs, strict=True):
                found[i] = confidence(math.fsum(own[t] for t in places[i]) / len(places[i]), self.cap)
        return found

    def answer_tokens(self, ctx: StepContext, rollout: Rollout) -> list[int]:
        """Places of the answer's tokens that the policy itself wrote; empty without an answer."""
        assert ctx.services is not None, "declared as a need"
        begin = last_turn(rollout)
        ids = rollout.ids[begin:]
        span = answer_span(ctx.services.decode(ids), self.opens, self.closes)
        if span is None:
            return []
        is_own = rollout.trained()
        return [begin + t for t in tokens_over(ctx.services.decode, ids, *span) if is_own[begin + t]]


def accuracy_of(ctx: StepContext, group: Group, rollout: Rollout) -> float:
    """The main verifier's score, or what a piece put in its place (a vote)."""
    if rollout.outcome is not None or rollout.reward is None or ctx.mixture is None:
        return rollout.value or 0.0
    return rollout.reward.parts[ctx.mixture.main_verifier(group.sample.task)]
