"""Supervised learning on rollouts that a hook improved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece

if TYPE_CHECKING:
    from torch import Tensor

    from factory.stages.rl.context import StepContext
    from factory.stages.rl.tokens import TokenBatch


@piece(
    "auxiliary", "sft_selected", formula="-coef * log pi on edited rollouts with A > 0",
    source="VL-Rethinker, arXiv 2504.08837 (released code)",
)  # fmt: skip
@dataclass(frozen=True)
class SftSelected:
    """Cross-entropy on the policy's own tokens of rethought rollouts; what was put in is context, as everywhere."""

    coef: float = 0.05

    def __post_init__(self) -> None:
        if self.coef <= 0:
            raise ValueError("coef must be above 0; leave the piece out to have no such term.")

    def __call__(self, ctx: StepContext, batch: TokenBatch) -> Tensor:
        """[B, T] per-token term, averaged by the aggregator as the policy loss is."""
        chosen = batch.of_kind("edited") * (batch.advantages > 0).to(batch.logp.dtype)
        return -self.coef * chosen * batch.logp
