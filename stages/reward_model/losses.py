"""Losses of scorers on pairs. No torch: tensor methods only. Shape letter: P = pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.logistic import negative_log_sigmoid

if TYPE_CHECKING:
    from torch import Tensor

BRADLEY_TERRY, COST = "bradley_terry", "cost"


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """`-log sigmoid(r_c - r_r)` [P]; only the difference of scores counts.

    Source: Bradley and Terry 1952; as a reward model's loss: arXiv 2009.01325, section 3.4.
    """
    return negative_log_sigmoid(chosen - rejected)


def cost(chosen: Tensor, rejected: Tensor, chosen_sign: Tensor, rejected_sign: Tensor) -> Tensor:
    """`-log sigmoid(c_worse - c_better)` plus, for each response, `-log sigmoid(sign c)` [P].

    Args:
        chosen: [P] cost of the better (safer) response.
        rejected: [P] cost of the worse response.
        chosen_sign: [P] +1 where the response is unsafe, -1 where it is safe, so that 0 divides the two.
        rejected_sign: [P] likewise.

    Source: Safe RLHF, arXiv 2310.12773; Safe RLHF-V, arXiv 2503.17682.
    """
    ranks = negative_log_sigmoid(rejected - chosen)
    return ranks + negative_log_sigmoid(chosen_sign * chosen) + negative_log_sigmoid(rejected_sign * rejected)


@dataclass(frozen=True)
class ScoreLoss:
    """One choice of `objective`."""

    name: str
    function: Callable[..., Tensor]
    needs_labels: bool
    better_is: int
    """+1: the better response should score higher; -1: lower."""
    formula: str
    source: str


LOSSES: dict[str, ScoreLoss] = {
    loss.name: loss
    for loss in (
        ScoreLoss(BRADLEY_TERRY, bradley_terry, False, 1, "-log sigmoid(r_c - r_r)", "Bradley-Terry 1952; arXiv 2009.01325"),
        ScoreLoss(COST, cost, True, -1, "-log sigmoid(c_worse - c_better) - log sigmoid(+-c_worse) - log sigmoid(+-c_better)",
                  "Safe RLHF, arXiv 2310.12773; Safe RLHF-V, arXiv 2503.17682"),
    )
}  # fmt: skip
