"""Truncated importance sampling: what another program sampled is learned from with the weight that the policy itself gives it.

A separate sampler (vLLM) rounds otherwise than the trainer, so its tokens come from a policy mu that is not quite the trainer's pi_old.
The gradient of pi_old is regained by the weight pi_old(token) / mu(token), held below a cap so that rare tokens do not rule it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import FRESH, Group


def truncated_weights(own: Sequence[float], sampler: Sequence[float], cap: float) -> list[float]:
    """`min(exp(own - sampler), cap)` for each token; both in nats."""
    limit = math.log(cap)
    return [math.exp(min(a - b, limit)) for a, b in zip(own, sampler, strict=True)]


@piece(
    "token_weight", "tis", formula="min(pi_old(token) / mu(token), cap); pi_old the trainer before its update, mu the sampler",
    source="Yao et al. 2025, Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (truncated importance sampling)",
    needs={"sampler_logprobs"},
    caveat="the ratio of the loss then starts from the trainer's own log-probs, not from the sampler's",
)  # fmt: skip
@dataclass(frozen=True)
class TruncatedImportance:
    """Weighs the policy's own tokens of fresh rollouts, and replaces the sampler's log-probs by the trainer's.

    Figures: `sampler_gap_max` and `sampler_gap_mean` (nats, absolute), `sampler_kl` (mean of mu's log-prob minus pi_old's: an estimate of
    KL(mu || pi_old) per token), `tis_mean` (mean weight), `tis_capped` (share of tokens at the cap).
    """

    cap: float = 2.0
    """Largest weight; the source's runs use 2."""

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise ValueError("cap must be 1 or more.")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Multiply the token weights of all fresh rollouts. Called on every process with the same groups."""
        assert ctx.services is not None, "a run has services"
        pairs = [(group.sample, one) for group in groups for one in group.live() if one.kind == FRESH and one.ids]
        found = ctx.services.logprobs(pairs, "policy")
        gaps: list[float] = []
        weights: list[float] = []
        for (_, rollout), own in zip(pairs, found, strict=True):
            is_sampled = rollout.trained()
            made = truncated_weights(own, rollout.logprobs, self.cap)
            made = [weight if sampled else 1.0 for weight, sampled in zip(made, is_sampled, strict=True)]
            gaps += [mu - pi for mu, pi, sampled in zip(rollout.logprobs, own, is_sampled, strict=True) if sampled]
            weights += [weight for weight, sampled in zip(made, is_sampled, strict=True) if sampled]
            before = rollout.token_weights or [1.0] * len(rollout.ids)
            rollout.token_weights = [a * b for a, b in zip(before, made, strict=True)]
            rollout.logprobs = list(own)
        if gaps:
            ctx.metrics |= {
                "sampler_gap_max": max(map(abs, gaps)), "sampler_gap_mean": math.fsum(map(abs, gaps)) / len(gaps),
                "sampler_kl": math.fsum(gaps) / len(gaps), "tis_mean": math.fsum(weights) / len(weights),
                "tis_capped": sum(weight >= self.cap for weight in weights) / len(weights),
            }  # fmt: skip
