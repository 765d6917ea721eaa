"""Rules that let an optimiser step be taken or leave it out."""

from __future__ import annotations

from dataclasses import dataclass

from factory.stages.rl.pieces.piece import piece


@piece(
    "step_rule", "max_grad_norm", formula="take the step when |gradient| <= limit",
    source="Intern-S1, arXiv 2508.15763: 0.3, about 3% of the batches left out; ExGRPO's code: 500",
    caveat="the right limit depends on the loss and the model, so it has to be given",
)  # fmt: skip
@dataclass(frozen=True)
class MaxGradNorm:
    """A batch whose gradient is out of the ordinary is left out: weights and optimiser stay as they were."""

    limit: float
    """Largest gradient norm, before clipping, over all processes."""

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ValueError("limit must be above 0. Intern-S1 uses 0.3.")

    def allows(self, grad_norm: float) -> bool:
        """Whether the optimiser step is taken."""
        return grad_norm <= self.limit
