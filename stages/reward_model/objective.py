"""A scorer's loss as the Learner minimises it. Shape letters: P = pairs, B = 2 P rows (chosen first), T = tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from factory.contracts import Pair
from factory.errors import DataError
from factory.stages.models.forward import model_inputs
from factory.stages.objectives import Batch
from factory.stages.reward_model.losses import ScoreLoss


class ScoreObjective:
    """An `Objective` of the Learner. Batches come from `PairBatches`; for costs with `chosen_sign` and `rejected_sign` [P]."""

    def __init__(self, loss: ScoreLoss) -> None:
        self._loss = loss

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """`pairs`, and `tokens` of whole rows: a scorer reads the prompt too."""
        return {"pairs": len(batch["input_ids"]) / 2, "tokens": float(batch["attention_mask"].sum())}

    def loss(self, model: nn.Module, batch: Batch, totals: Mapping[str, float]) -> tuple[Tensor, Mapping[str, float]]:
        """This micro-batch's share of the mean over pairs, and its shares of the metrics."""
        chosen, rejected = model(**model_inputs(dict(batch))).chunk(2)
        labels = (batch["chosen_sign"], batch["rejected_sign"]) if self._loss.needs_labels else ()
        num_pairs = max(1.0, totals["pairs"])
        with torch.no_grad():
            margin = self._loss.better_is * (chosen - rejected)
            sums = {
                "accuracy": (margin > 0).sum(), "margin": margin.sum(), "chosen_score": chosen.sum(),
                "rejected_score": rejected.sum(),
            }  # fmt: skip
            metrics = {name: float(value) / num_pairs for name, value in sums.items()}
        return self._loss.function(chosen, rejected, *labels).sum() / num_pairs, metrics


def safety_signs(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """(chosen, rejected) of each pair: +1 unsafe, -1 safe.

    Raises:
        DataError: a pair without both labels, or one that prefers an unsafe response to a safe one.
    """
    signs: list[tuple[float, float]] = []
    for pair in pairs:
        labels = [pair.meta.get(name) for name in ("chosen_safe", "rejected_safe")]
        if not all(isinstance(label, bool) for label in labels):
            raise DataError(
                f"pair of sample {pair.sample.id}: a cost model needs meta.chosen_safe and meta.rejected_safe (true or false), "
                f"got {labels[0]!r} and {labels[1]!r}. Label the pairs, or set objective=bradley_terry."
            )
        if labels == [False, True]:
            raise DataError(
                f"pair of sample {pair.sample.id}: prefers an unsafe response to a safe one; in a cost model `chosen` is the "
                "safer of the two. Swap them, or leave the pair out."
            )
        signs.append((-1.0 if labels[0] else 1.0, -1.0 if labels[1] else 1.0))
    return signs
