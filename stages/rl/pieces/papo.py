"""PAPO: reward the policy's text for depending on the image, by hiding part of it. Nats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import seed_of

if TYPE_CHECKING:
    from torch import Tensor

    from factory.stages.models.codec import Codec, Encoded
    from factory.stages.rl.context import StepContext
    from factory.stages.rl.tokens import TokenBatch

ANNEALS = ("none", "linear")


@piece(
    "auxiliary", "papo", formula="-gamma * K + eta_masked * H_masked + eta * H; K = k3(policy || policy with the image masked)",
    source="PAPO, arXiv 2507.06448 (released code)", needs={"masked_view"},
    caveat="the source names annealing, a cap and top tokens as options without values; linear to 0 and 'largest K' are ours",
)  # fmt: skip
@dataclass(frozen=True)
class Papo:
    """Both entropies are pushed down, or the policy would raise K by writing noise. Rows without an image have no such term.

    As in the released code, the masked log-probs are made once per step without gradient, so `H_masked` shows in the figures
    and trains nothing; `recompute` makes them in the update, with gradient.
    """

    gamma: float = 0.01
    """0.01 for 3B models and with DAPO; 0.02 for 7B with GRPO."""
    eta: float = 0.03
    """Of the policy's entropy; 0.05 for 7B with GRPO."""
    eta_masked: float = 0.03
    """Of the entropy under the masked image; the source has the same value for both."""
    probability: float = 0.6
    """Of hiding a cell of the image."""
    cell_px: int = 14
    """Side of a cell, pixels of the image as the processor resized it."""
    clamp: float = 10.0
    """Largest K of a token (verl's low-variance KL)."""
    cap: float = 0.0
    """Largest mean K of a rollout: above it, the rollout's K has no gradient. 0 is off."""
    top_share: float = 1.0
    """Share of a rollout's tokens that K acts on, those with the largest K; the source's option is 0.2."""
    anneal: str = "none"
    """`linear`: all three terms fall to 0 over the run."""
    recompute: bool = False
    """Masked log-probs with gradient: a second forward and backward in the update, and none before it."""

    def __post_init__(self) -> None:
        if self.gamma < 0 or self.eta < 0 or self.eta_masked < 0 or self.clamp <= 0 or self.cap < 0:
            raise ValueError("gamma, eta, eta_masked and cap must be 0 or more, clamp above 0.")
        if not 0 < self.probability <= 1 or not 0 < self.top_share <= 1 or self.cell_px < 1:
            raise ValueError("probability and top_share must be in (0, 1], cell_px 1 or more.")
        if self.anneal not in ANNEALS:
            raise ValueError(f"anneal={self.anneal!r} is not known. Choose {' or '.join(ANNEALS)}.")

    def masked_view(self, ctx: StepContext, codec: Codec, sample_id: str, prompt: Encoded) -> Encoded:
        """The prompt with cells of its images black: the same cells for all rollouts of a prompt, others in every step."""
        from factory.stages.models.masked_view import blackened

        if prompt.pixels is None or prompt.grid is None:
            return prompt
        seed = seed_of(ctx.seed, "masked_view", ctx.step, sample_id)
        pixels = blackened(
            prompt.pixels, prompt.grid, codec.image_processor, cell_px=self.cell_px, probability=self.probability, seed=seed
        )
        return replace(prompt, pixels=pixels)

    def __call__(self, ctx: StepContext, batch: TokenBatch) -> Tensor:
        """[B, T] per-token term, averaged by the aggregator as the policy loss is."""
        assert batch.has_view is not None, "made by the objective"
        rows = batch.has_view * batch.mask
        gap = (batch.masked - batch.logp).clamp(-20.0, 20.0)
        gain = (gap.exp() - gap - 1.0).clamp(max=self.clamp) * rows
        if self.cap:
            means = gain.detach().sum(1, keepdim=True) / rows.sum(1, keepdim=True).clamp(min=1.0)
            gain = gain.where(means <= self.cap, gain.detach())
        if self.top_share < 1:
            gain = gain * largest(gain.detach(), rows, self.top_share)
        factor = 1.0 - ctx.progress if self.anneal == "linear" else 1.0
        return factor * (-self.gamma * gain - (self.eta_masked * batch.masked + self.eta * batch.logp) * rows)


def largest(values: Tensor, rows: Tensor, share: float) -> Tensor:
    """[B, T] 1.0 on the largest `share` (rounded up) of each row's tokens, by `values` [B, T]; `rows` is 1 on those that count.

    Tokens that equal the smallest chosen one are chosen, too.
    """
    counts = rows.sum(1, keepdim=True)
    last = ((counts * share).ceil().clamp(min=1.0) - 1.0).long()
    ordered = values.masked_fill(rows == 0, -1.0).sort(dim=1, descending=True).values
    return (values >= ordered.gather(1, last)).to(values.dtype) * rows
