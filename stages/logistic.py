"""`-log sigmoid`, which every pairwise loss is made of. Tensor methods only, so that naming a loss in `plan` imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def negative_log_sigmoid(margin: Tensor) -> Tensor:
    """`-log sigmoid(margin)` = `log(1 + exp(-margin))`, element by element and without overflow; any shape, in nats."""
    return (-margin).logaddexp(margin.new_zeros(()))
