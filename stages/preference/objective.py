"""A preference loss as the Learner minimises it: weighted terms over sequence log-probabilities, normalised over the whole step.

Shape letters: P = pairs, B = 2 P rows (chosen first), T = tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from factory.stages.objectives import Batch, TokenLogprobs, model_logprobs, num_predicted
from factory.stages.preference.delta import RunningDelta
from factory.stages.preference.losses import Loss, PairLogprobs


def sequence_logprobs(model: nn.Module, batch: Batch, logprobs: TokenLogprobs = model_logprobs) -> Tensor:
    """[B] log-probability of each response: the sum over the tokens that the assistant writes, nats."""
    return logprobs(model, batch)[:, 1:].sum(dim=1)


class PreferenceObjective:
    """An `Objective` of the Learner. Batches come from `PairBatches` with the columns `ref_chosen` and `ref_rejected` [P].

    Args:
        loss: weighted terms.
        beta: reward units per nat.
        delta: shift of the BCO term; read at every step.
        logprobs: replaces the model's forward in tests.
    """

    def __init__(self, loss: Loss, *, beta: float, delta: RunningDelta, logprobs: TokenLogprobs | None = None) -> None:
        self._terms, self._beta, self._delta = loss.terms(), beta, delta
        self._logprobs = logprobs or model_logprobs

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """`pairs`; `tokens` and `chosen_tokens` of the responses."""
        chosen_mask = batch["loss_mask"][: len(batch["ref_chosen"]), 1:]
        return {
            "pairs": float(len(batch["ref_chosen"])), "tokens": num_predicted(batch), "chosen_tokens": float(chosen_mask.sum()),
        }  # fmt: skip

    def loss(self, model: nn.Module, batch: Batch, totals: Mapping[str, float]) -> tuple[Tensor, Mapping[str, float]]:
        """This micro-batch's share of the loss, and its shares of each term and of the metrics (each adds up to a mean)."""
        chosen, rejected = sequence_logprobs(model, batch, self._logprobs).float().chunk(2)
        chosen_tokens, rejected_tokens = batch["loss_mask"][:, 1:].sum(dim=1).float().chunk(2)
        pair = PairLogprobs(
            chosen, rejected, batch["ref_chosen"], batch["ref_rejected"], chosen_tokens, rejected_tokens,
            beta=self._beta, delta=self._delta.value,
        )  # fmt: skip
        shares = {term.name: term.function(pair).sum() / max(1.0, totals[term.over]) for term, _ in self._terms}
        total = torch.stack([weight * shares[term.name] for term, weight in self._terms]).sum()
        return total, self._metrics(pair, totals) | {name: float(share.detach()) for name, share in shares.items()}

    def _metrics(self, pair: PairLogprobs, totals: Mapping[str, float]) -> dict[str, float]:
        with torch.no_grad():
            chosen, rejected = pair.beta * pair.chosen_ratio, pair.beta * pair.rejected_ratio
            sums = {
                "chosen_reward": chosen.sum(), "rejected_reward": rejected.sum(), "margin": (chosen - rejected).sum(),
                "accuracy": (chosen > rejected).sum(), "chosen_logp": pair.chosen.sum(), "rejected_logp": pair.rejected.sum(),
            }  # fmt: skip
            return {name: float(value) / max(1.0, totals["pairs"]) for name, value in sums.items()}
