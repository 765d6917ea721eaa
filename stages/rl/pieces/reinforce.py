"""REINFORCE and REINFORCE++: the plain policy gradient, and advantages whitened over all tokens of the step.

Token returns: the score arrives on the last token; a KL that belongs in the reward (`place=reward`) is charged to the token
that caused it. Whitening looks at the trained tokens of all live rollouts, so a long rollout weighs more in its statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout
from factory.stages.rl.tokens import Surrogate

if TYPE_CHECKING:
    from factory.stages.rl.tokens import TokenBatch

VARIANCES = ("sample", "population")
"""`sample` divides by n-1 (verl), `population` by n (OpenRLHF)."""

VARIANCE_EPS = 1e-8
"""Added to the variance under the root, in both trainers."""

KL_TERM = "kl"
"""Name under which the collector puts a KL in the reward into `rollout.shaping`."""


def token_returns(rewards: Sequence[float], trained: Sequence[int], gamma: float) -> list[float]:
    """`R_t = r_t + gamma R_{t+1}` over the trained tokens; tokens between them neither pay nor discount. [len(rewards)]

    Untrained tokens get 0.
    """
    returns, after = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        if trained[t]:
            after = rewards[t] + gamma * after
            returns[t] = after
    return returns


def token_rewards(rollout: Rollout, kl_coef: float) -> list[float]:
    """The score on the last trained token, and `-kl_coef * k1` on each trained token when the KL is in the reward. [len(ids)]

    A rollout without log-probs of the reference (replayed, demonstrated) has no KL charged token by token.
    """
    trained, score = rollout.trained(), rollout.score or 0.0
    rewards = [0.0] * len(trained)
    if KL_TERM in rollout.shaping and rollout.ref_logprobs:
        score -= rollout.shaping[KL_TERM]
        gaps = zip(rollout.logprobs, rollout.ref_logprobs, trained, strict=True)
        rewards = [-kl_coef * (logp - ref) * m for logp, ref, m in gaps]
    last = max((t for t, m in enumerate(trained) if m), default=None)
    if last is not None:
        rewards[last] += score
    return rewards


def whitened(values: Sequence[Sequence[float]], trained: Sequence[Sequence[int]], variance: str) -> list[list[float]]:
    """`(x - mean) / sqrt(var + 1e-8)` with mean and variance over all trained tokens; untrained ones get 0.

    Args:
        values: one list per rollout, one value per token. trained: 1 for each token that counts.
        variance: one of `VARIANCES`.

    Returns:
        Lists of the same shapes; all 0 when fewer than two tokens count or all are equal.
    """
    counted = [x for row, mask in zip(values, trained, strict=True) for x, m in zip(row, mask, strict=True) if m]
    if len(counted) < 2 or max(counted) == min(counted):
        return [[0.0] * len(row) for row in values]
    mean = math.fsum(counted) / len(counted)
    squares = math.fsum((x - mean) ** 2 for x in counted)
    scale = math.sqrt(squares / (len(counted) - (variance == "sample")) + VARIANCE_EPS)
    return [
        [(x - mean) / scale if m else 0.0 for x, m in zip(row, mask, strict=True)]
        for row, mask in zip(values, trained, strict=True)
    ]


def set_token_advantages(rollouts: Sequence[Rollout], advantages: Sequence[Sequence[float]]) -> None:
    """One advantage for the rollout where all its trained tokens have the same; one per token (and their mean) otherwise."""
    for rollout, own in zip(rollouts, advantages, strict=True):
        counted = [a for a, m in zip(own, rollout.trained(), strict=True) if m]
        is_flat = not counted or max(counted) == min(counted)
        rollout.token_advantages = [] if is_flat else list(own)
        rollout.advantage = (counted[0] if is_flat else math.fsum(counted) / len(counted)) if counted else 0.0


def forget_advantages(groups: Sequence[Group]) -> None:
    """Masked rollouts, and whatever an earlier step left behind, have none."""
    for group in groups:
        for rollout in group.rollouts:
            rollout.advantage, rollout.token_advantages = 0.0, []


def _check(variance: str) -> None:
    if variance not in VARIANCES:
        raise ValueError(f"variance={variance!r} is not known. Choose one of: {', '.join(VARIANCES)}.")


@piece(
    "advantage", "reinforce_pp", formula="whiten_batch(R_t), R_t = r_t + gamma R_{t+1}, r_t = score at the end - beta k1",
    source="REINFORCE++, arXiv 2501.03262; verl, OpenRLHF",
    caveat="with the KL in the reward, each token pays for its own (kl.k1 with place=reward)",
)  # fmt: skip
@dataclass(frozen=True)
class ReinforcePp:
    """No group baseline: the whole step is the baseline."""

    gamma: float = 1.0
    """Discount per trained token."""
    variance: str = "sample"
    """`sample` (n-1, verl) or `population` (n, OpenRLHF)."""

    def __post_init__(self) -> None:
        _check(self.variance)
        if not 0 < self.gamma <= 1:
            raise ValueError("gamma must be above 0 and at most 1.")

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set the advantages of all live rollouts, token by token where they differ."""
        forget_advantages(groups)
        live = [rollout for group in groups for rollout in group.live()]
        trained = [rollout.trained() for rollout in live]
        returns = [
            token_returns(token_rewards(rollout, ctx.kl_coef), mask, self.gamma)
            for rollout, mask in zip(live, trained, strict=True)
        ]
        set_token_advantages(live, whitened(returns, trained, self.variance))


@piece(
    "advantage", "reinforce_pp_baseline", formula="whiten_batch(r_i - mean of its group), on every token",
    source="REINFORCE++ with baseline, arXiv 2501.03262; verl",
)  # fmt: skip
@dataclass(frozen=True)
class ReinforcePpBaseline:
    """The group gives the baseline, all tokens of the step give the scale. A group with one live rollout takes no part."""

    variance: str = "sample"
    """`sample` (n-1, verl) or `population` (n)."""

    def __post_init__(self) -> None:
        _check(self.variance)

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set the advantages of all live rollouts."""
        forget_advantages(groups)
        rollouts: list[Rollout] = []
        centred: list[float] = []
        for live in (group.live() for group in groups):
            if len(live) < 2:
                continue
            scores = [rollout.score for rollout in live]
            # Equals have exactly nothing over their mean, whatever a mean's rounding says.
            mean = scores[0] if max(scores) == min(scores) else math.fsum(scores) / len(scores)
            rollouts += live
            centred += [score - mean for score in scores]
        trained = [rollout.trained() for rollout in rollouts]
        rows = [[value] * len(mask) for value, mask in zip(centred, trained, strict=True)]
        set_token_advantages(rollouts, whitened(rows, trained, self.variance))


@piece("loss", "reinforce", formula="-A logp", source="REINFORCE (Williams, 1992); RLOO: arXiv 2402.14740")
@dataclass(frozen=True)
class Reinforce:
    """No ratio and no clip: the gradient of the first update after the rollouts; later ones are not corrected."""

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        return Surrogate(-batch.advantages * batch.logp)
