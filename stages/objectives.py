"""What a Learner minimises: the Objective protocol and the plain token negative log-likelihood.

The normaliser rule (docs: DESIGN, decision 2): `counts` gives the denominators of a micro-batch before any forward;
the Learner sums them over all micro-batches and ranks; `loss` divides by those sums, so that the shares of all
micro-batches simply add up to the loss of the whole batch. No mean is ever taken of means.

Shape letters: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

Batch = Mapping[str, Any]
"""Tensors by name: input_ids, loss_mask [B, T], attention_mask [B, T] or position_ids [B, T] (packed), images."""

TokenLogprobs = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) -> [B, T] log-probability of each token given the earlier ones, 0 where loss_mask is 0."""


class Objective(Protocol):
    """One loss. It must not depend on how rows are split into micro-batches, other than through `totals`."""

    def counts(self, batch: Any) -> Mapping[str, float]:
        """Denominators of this micro-batch (tokens, rows, ...), from the data alone."""

    def loss(self, model: nn.Module, batch: Any, totals: Mapping[str, float]) -> tuple[Tensor, Mapping[str, float]]:
        """This micro-batch's share of the loss (scalar), and metrics that are summed over micro-batches and ranks.

        Args:
            model: call it, or hand it to `token_logprobs`; it may be wrapped for DDP or DeepSpeed.
            totals: sums of `counts` over the whole optimiser step. A total may be 0: then so is the share.
        """


@dataclass(frozen=True)
class Filler:
    """A micro-batch that runs and counts for nothing: for a rank without rows, because all ranks must step together."""

    batch: Any


def num_predicted(batch: Batch) -> float:
    """Tokens that the loss counts. The first column predicts nothing, so its mask does not count."""
    return float(batch["loss_mask"][:, 1:].sum())


class TokenNLL:
    """Mean negative log-likelihood per masked-in token of the whole step (nats per token). CPT and SFT use it."""

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """`tokens`: number of predicted tokens in the micro-batch."""
        return {"tokens": num_predicted(batch)}

    def loss(self, model: nn.Module, batch: Batch, totals: Mapping[str, float]) -> tuple[Tensor, Mapping[str, float]]:
        """-(sum of log-probabilities) / tokens of the whole step. Both leave out the first column."""
        from factory.stages.models.forward import summed_nll

        return summed_nll(model, dict(batch)) / max(1.0, totals["tokens"]), {}


def model_logprobs(model: nn.Module, batch: Batch) -> Tensor:
    """[B, T] log-probabilities through `stages.models.forward`."""
    from factory.stages.models.forward import token_logprobs

    return token_logprobs(model, dict(batch))[0]


def has_images(batch: Any) -> bool:
    """True when a micro-batch (or a filler's) carries pixels."""
    batch = batch.batch if isinstance(batch, Filler) else batch
    return isinstance(batch, Mapping) and batch.get("pixel_values") is not None
