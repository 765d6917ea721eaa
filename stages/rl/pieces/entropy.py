"""The entropy bonus: keeps the policy from becoming certain too early. Nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece

if TYPE_CHECKING:
    from torch import Tensor

    from factory.stages.rl.context import StepContext
    from factory.stages.rl.tokens import TokenBatch


@piece(
    "auxiliary", "entropy_bonus", formula="-coef * decay^s * H(policy)", needs={"entropy"},
    source="A3C, arXiv 1602.01783; 0.001 in LUFFY and ExGRPO; 0.02 * 0.985^s in ReVisual-R1, arXiv 2506.04207",
)  # fmt: skip
@dataclass(frozen=True)
class EntropyBonus:
    """Minimising it raises the entropy."""

    coef: float = 0.001
    decay: float = 1.0
    """Factor per RL step."""

    def __post_init__(self) -> None:
        if self.coef < 0 or not 0 < self.decay <= 1:
            raise ValueError("coef must be 0 or more and decay in (0, 1].")

    def __call__(self, ctx: StepContext, batch: TokenBatch) -> Tensor:
        """[B, T] per-token term, averaged by the aggregator as the policy loss is."""
        assert batch.entropy is not None, "declared as a need"
        return -self.coef * self.decay**ctx.step * batch.entropy
