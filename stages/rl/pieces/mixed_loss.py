"""The loss of LUFFY and ExGRPO: fresh tokens by their ratio, foreign tokens by a reshaped ratio without a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.policy_loss import check_clip, clipped, importance_ratio
from factory.stages.rl.pieces.shapers import check_shaper, shaped
from factory.stages.rl.rollouts import DEMO, REPLAY
from factory.stages.rl.tokens import KIND_CODES, Surrogate, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

CLIP_FRESH = ("never", "until_replay", "always")


@piece(
    "loss", "mixed", needs={"old_logprobs"},
    formula="fresh: -A rho, clipped as clip_fresh says; demo and replay: -A f(x), x = exp(logp - old), f = x/(x+gamma)",
    source="LUFFY, arXiv 2504.14945 (clip_fresh never); ExGRPO, arXiv 2510.02245 (until_replay)",
    caveat="`until_replay` reads ExGRPO's 'fresh tokens are clipped before replay starts' update by update: one without a stored "
    "rollout clips",
)  # fmt: skip
@dataclass(frozen=True)
class MixedLoss:
    """Each rollout goes by its kind: no token is both clipped and reshaped."""

    shaper: str = "p/(p+gamma)"
    """f of demonstration and stored tokens; see `shapers.SHAPERS`."""
    gamma: float = 0.1
    """Where unlikely tokens learn most. LUFFY and ExGRPO: 0.1."""
    clip_fresh: str = "never"
    """`never` (LUFFY), `until_replay` (ExGRPO: only in updates without a stored rollout) or `always`."""
    eps_low: float = 0.2
    eps_high: float = 0.2

    def __post_init__(self) -> None:
        check_shaper(self.shaper, self.gamma)
        check_clip(self.eps_low, self.eps_high)
        if self.clip_fresh not in CLIP_FRESH:
            raise ValueError(f"clip_fresh={self.clip_fresh!r} is not known. Choose one of: {', '.join(CLIP_FRESH)}.")

    def counts(self, batch: Mapping[str, Any]) -> Mapping[str, float]:
        """`stored_rollouts` of this micro-batch; their total tells every process whether this update replays."""
        is_stored = (batch["kinds"] == KIND_CODES[REPLAY]) & (batch["policy_mask"].sum(1) > 0)
        return {"stored_rollouts": float(is_stored.sum())}

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        fresh = self._fresh(batch)
        is_foreign = batch.of_kind(DEMO, REPLAY).bool()
        foreign = -batch.advantages * shaped(batch.logp - batch.old, shaper=self.shaper, gamma=self.gamma)
        low, high = (None if hits is None else hits & ~is_foreign for hits in (fresh.clipped_low, fresh.clipped_high))
        return Surrogate(foreign.where(is_foreign, fresh.loss), low, high)

    def _fresh(self, batch: TokenBatch) -> Surrogate:
        ratio: Tensor = importance_ratio(batch.logp, batch.old)
        has_replay = batch.totals.get("stored_rollouts", 0.0) > 0
        if self.clip_fresh == "always" or (self.clip_fresh == "until_replay" and not has_replay):
            return clipped(ratio, batch.advantages, eps_low=self.eps_low, eps_high=self.eps_high)
        return Surrogate(-batch.advantages * ratio)
