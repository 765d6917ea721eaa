"""GSPO: one importance ratio for the whole completion (Group Sequence Policy Optimization, arXiv 2507.18071).

The sequence form multiplies the advantage by one number per rollout. The token form has the same value; its gradient goes
through each token by itself, so advantages and weights may differ from token to token.
Shape letters: B rollouts, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import check_clip, clipped
from factory.stages.rl.tokens import Surrogate, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 10.0
"""The log of the ratio is held below this before `exp` (verl)."""

_SOURCE = "GSPO, arXiv 2507.18071; clip ends as in verl"


def mean_log_ratio(batch: TokenBatch) -> Tensor:
    """Mean over the trained tokens of `logp - old`, [B, 1]; 0 for a row without any. Carries the gradient of `logp`."""
    total = ((batch.logp - batch.old) * batch.mask).sum(1, keepdim=True)
    return total / batch.mask.sum(1, keepdim=True).clamp(min=1.0)


@dataclass(frozen=True)
class _SequenceClip:
    eps_low: float = 3e-4
    """How far the sequence's ratio may fall below 1."""
    eps_high: float = 4e-4
    """How far it may rise above 1."""

    def __post_init__(self) -> None:
        check_clip(self.eps_low, self.eps_high)


@piece(
    "loss", "gspo", formula="max(-A s, -A clip(s, 1-eps_low, 1+eps_high)), s = exp(mean_t(logp - old))", source=_SOURCE,
    needs={"old_logprobs"},
)  # fmt: skip
@dataclass(frozen=True)
class Gspo(_SequenceClip):
    """The sequence form: one loss per rollout, on each of its tokens; aggregate it with `seq_mean_token_mean`."""

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T], equal on all tokens of a rollout whose advantage is."""
        ratio = mean_log_ratio(batch).clamp(max=MAX_LOG_RATIO).exp().expand_as(batch.logp)
        return clipped(ratio, batch.advantages, eps_low=self.eps_low, eps_high=self.eps_high)


@piece(
    "loss", "gspo_token", formula="as gspo with log s_t = sg[log s] + logp - sg[logp] on each token", source=_SOURCE,
    needs={"old_logprobs"},
)  # fmt: skip
@dataclass(frozen=True)
class GspoToken(_SequenceClip):
    """The token form: the value of the sequence form, each token's own gradient."""

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        log_ratio = mean_log_ratio(batch).detach() + batch.logp - batch.logp.detach()
        ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
        return clipped(ratio, batch.advantages, eps_low=self.eps_low, eps_high=self.eps_high)
