"""Per-token estimators of KL(policy || reference) from samples of the policy. Nats; any shape.

Source: J. Schulman, "Approximating KL divergence" (2020). In a loss, k1 has a gradient of mean zero, k2 the right
gradient, k3 is never negative and has a small variance; in a reward, k1 is unbiased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAX_GAP = 20.0
"""`ref - logp` is held within +-20, so that a token the reference would never write cannot make the step infinite."""


def k1(logp: Tensor, ref: Tensor) -> Tensor:
    """`logp - ref`: unbiased, signed."""
    return logp - ref


def k2(logp: Tensor, ref: Tensor) -> Tensor:
    """`(logp - ref)^2 / 2`."""
    return 0.5 * (logp - ref).square()


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """`exp(d) - d - 1` with `d = ref - logp`."""
    gap = (ref - logp).clamp(-MAX_GAP, MAX_GAP)
    return gap.exp() - gap - 1.0
