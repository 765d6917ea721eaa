"""Per-token estimators of KL(policy || reference) from samples of the policy. Nats; any shape.

Source: J. Schulman, "Approximating KL divergence" (2020). In a loss, k1 has a gradient of mean zero, k2 the right
gradient, k3 is never negative and has a small variance; in a reward, k1 is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece

if TYPE_CHECKING:
    from torch import Tensor

MAX_GAP = 20.0
"""`ref - logp` is held within +-20, so that a token the reference would never write cannot make the step infinite."""

PLACES = ("loss", "reward")

_SOURCE = "J. Schulman, Approximating KL divergence (2020)"


@dataclass(frozen=True)
class _Estimator:
    coef: float = 0.04
    """Coefficient. 0.04 in the first GRPO, 0.001 in R1 and verl."""
    place: str = "loss"
    """`loss`, or `reward` (subtracted from the rollout's reward, summed over its tokens)."""
    unbiased: bool = False
    """Multiply the KL in the loss by the ratio policy/sampler, which makes k3's gradient that of the KL (DeepSeek-V3.2)."""

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"place={self.place!r} is not known. Choose 'loss' or 'reward'.")
        if self.coef < 0:
            raise ValueError("coef must be 0 or more; leave the piece out to have no KL.")
        if self.unbiased and self.place == "reward":
            raise ValueError("unbiased=true belongs to place=loss: in the reward, the KL has no gradient of its own.")


@piece("kl", "k1", formula="logp - ref", source=_SOURCE, needs={"ref_logprobs"})
@dataclass(frozen=True)
class K1(_Estimator):
    """Unbiased, signed."""

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        """[...] nats."""
        return logp - ref


@piece("kl", "k2", formula="(logp - ref)^2 / 2", source=_SOURCE, needs={"ref_logprobs"})
@dataclass(frozen=True)
class K2(_Estimator):
    """Biased value, right gradient."""

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        """[...] nats."""
        return 0.5 * (logp - ref).square()


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """`exp(d) - d - 1` with `d = ref - logp` held within +-`MAX_GAP`; [...] nats."""
    gap = (ref - logp).clamp(-MAX_GAP, MAX_GAP)
    return gap.exp() - gap - 1.0


@piece("kl", "k3", formula="exp(d) - d - 1, d = ref - logp", source=_SOURCE, needs={"ref_logprobs"})
@dataclass(frozen=True)
class K3(_Estimator):
    """Never negative, small variance."""

    max_value: float = 0.0
    """Upper bound of one token's KL, nats, above which it has no gradient; 0 is none (TRL), 10 is verl's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_value < 0:
            raise ValueError("max_value must be above 0 (verl: 10), or 0 for no bound.")

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        """[...] nats."""
        kl = k3(logp, ref)
        return kl.clamp(max=self.max_value) if self.max_value else kl


@piece("kl", "abs", formula="|logp - ref|", source="verl (kl_penalty abs)", needs={"ref_logprobs"})
@dataclass(frozen=True)
class AbsoluteGap(_Estimator):
    """No estimate of a KL: a distance whose gradient has the same size however near the reference is."""

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        """[...] nats."""
        return (logp - ref).abs()


@piece(
    "kl", "k3_plus", formula="value exp(d) - d - 1, gradient of d^2 / 2 (straight through)", source="verl (kl_penalty k3+)",
    needs={"ref_logprobs"},
)  # fmt: skip
@dataclass(frozen=True)
class K3Plus(_Estimator):
    """Shown with k3's small variance, minimised with k2's right gradient."""

    def __call__(self, logp: Tensor, ref: Tensor) -> Tensor:
        """[...] nats."""
        squared = 0.5 * (logp - ref).square()
        return squared + (k3(logp, ref) - squared).detach()
