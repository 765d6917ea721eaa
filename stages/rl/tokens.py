"""The tensors of one micro-batch as losses see them. Shape letters: B rollouts, T token positions of prompt and completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KIND_CODES = {"fresh": 0, "replay": 1, "demo": 2, "edited": 3}


@dataclass(frozen=True)
class TokenBatch:
    """All [B, T] tensors are aligned: position t speaks of token t, whose log-probability is given the tokens before it."""

    logp: Tensor
    """[B, T] log-probs under the policy being trained, nats; carries the gradient; 0 where `mask` is 0."""
    old: Tensor
    """[B, T] log-probs under the policy that sampled the token (0 = probability 1 for demonstrations)."""
    ref: Tensor
    """[B, T] log-probs under the reference; 0 where there is none."""
    masked: Tensor
    """[B, T] log-probs with part of the image masked; 0 where there are none."""
    mask: Tensor
    """[B, T] 1.0 on the tokens that train."""
    advantages: Tensor
    """[B, T] the advantage of each token's rollout (or its own)."""
    weights: Tensor
    """[B, T] factors of the policy term."""
    kl_weights: Tensor
    """[B, T] factors of the KL coefficient."""
    flags: Tensor
    """[B, T] 1.0 where a piece's `flag` chose the token (shares where some are equal)."""
    kinds: Tensor
    """[B] int64, codes of `KIND_CODES`."""
    totals: Mapping[str, float]
    """Counts over the whole optimiser step: `tokens`, `sequences`, and what the loss counts itself."""
    right: Tensor | None = None
    """[B] 1.0 for rollouts that the main verifier found right."""
    has_view: Tensor | None = None
    """[B, 1] 1.0 for rollouts with log-probs of a masked image."""
    entropy: Tensor | None = None
    """[B, T] entropy of the policy at each trained position, nats, with gradient."""

    def of_kind(self, *kinds: str) -> Tensor:
        """[B, 1] 1.0 for rollouts of these kinds."""
        found = sum((self.kinds == KIND_CODES[kind]).to(self.mask.dtype) for kind in kinds)
        return found.unsqueeze(1)


@dataclass(frozen=True)
class Surrogate:
    """Per-token loss [B, T], and where each end of a clip took the gradient away (bool [B, T], or None)."""

    loss: Tensor
    clipped_low: Tensor | None = None
    clipped_high: Tensor | None = None
