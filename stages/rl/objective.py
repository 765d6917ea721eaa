"""The RL loss as the Learner minimises it: clipped surrogate + KL + entropy bonus, aggregated over the whole step.

Shape letters: B = rollouts, T = token positions (prompt and completion). All [B, T] tensors are aligned with `input_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from factory.stages.models.forward import token_logprobs
from factory.stages.rl.pieces.aggregate import counts
from factory.stages.rl.pieces.policy_loss import clipped_surrogate, importance_ratio, negative_entropy
from factory.stages.rl.pieces.registry import pick
from factory.stages.rl.presets import RlSettings
from factory.stages.rl.rollouts import Rollout

if TYPE_CHECKING:
    from factory.stages.models.codec import Codec, Encoded


@dataclass
class Row:
    """One rollout with its rendered prompt, ready to train on."""

    prompt: Encoded
    rollout: Rollout
    is_filler: bool = False
    """True for a copy that only keeps the processes in step: no gradient, not counted."""

    def encoded(self) -> Encoded:
        """Prompt and completion as one sequence; the loss mask is 1 exactly on the tokens that the policy wrote."""
        ids = [*self.prompt.ids, *self.rollout.ids]
        return replace(self.prompt, ids=ids, loss_mask=[0] * len(self.prompt.ids) + [1] * len(self.rollout.ids))

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt.ids) + len(self.rollout.ids)


def make_batch(rows: Sequence[Row], codec: Codec, device: torch.device | None) -> dict[str, Tensor]:
    """The model's inputs plus `policy_mask`, `old_logprobs`, `ref_logprobs` [B, T] and `advantages` [B], float32."""
    batch = dict(codec.collate([row.encoded() for row in rows], left=False, device=device))
    shape = batch["input_ids"].shape
    old, ref, is_live = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape[0], 1)
    for b, row in enumerate(rows):
        span = slice(len(row.prompt.ids), row.length)
        old[b, span] = torch.tensor(row.rollout.logprobs)
        if row.rollout.ref_logprobs:
            ref[b, span] = torch.tensor(row.rollout.ref_logprobs)
        is_live[b] = not row.is_filler
    batch["policy_mask"] = batch["loss_mask"].float() * is_live.to(device)
    batch["old_logprobs"], batch["ref_logprobs"] = old.to(device), ref.to(device)
    batch["advantages"] = torch.tensor([row.rollout.advantage for row in rows], device=device)
    return batch


class PolicyObjective:
    """An `Objective` of the Learner, put together from the pieces that the settings name."""

    def __init__(self, settings: RlSettings, *, temperature: float) -> None:
        self._settings = settings
        self._temperature = temperature
        self._aggregate = pick("aggregator", settings.aggregator).function
        self._kl = pick("kl", settings.kl_estimator).function if settings.kl_coef and settings.kl_in == "loss" else None

    def counts(self, batch: Mapping[str, Any]) -> Mapping[str, float]:
        """Trained tokens and rollouts of this micro-batch."""
        return counts(batch["policy_mask"])

    def loss(self, model: nn.Module, batch: Mapping[str, Any], totals: Mapping[str, float]) -> tuple[Tensor, Mapping[str, float]]:
        """This micro-batch's share of the loss; sums over its trained tokens of clip hits and KL."""
        settings, mask = self._settings, batch["policy_mask"]
        wants_entropy = "entropy" in settings.needs()
        logp, entropy = token_logprobs(model, dict(batch), temperature=self._temperature, with_entropy=wants_entropy)
        surrogate = clipped_surrogate(
            logp, batch["old_logprobs"], batch["advantages"],
            eps_low=settings.eps_low, eps_high=settings.eps_high, dual_clip=settings.dual_clip,
        )  # fmt: skip
        per_token = surrogate.loss
        sums = {
            "clipped_low": float((surrogate.clipped_low * mask).sum()),
            "clipped_high": float((surrogate.clipped_high * mask).sum()),
        }
        if self._kl is not None:
            kl = self._kl(logp, batch["ref_logprobs"])
            if settings.kl_unbiased:
                kl = kl * importance_ratio(logp, batch["old_logprobs"])
            per_token = per_token + settings.kl_coef * kl
            sums["kl_sum"] = float((kl * mask).detach().sum())
        if entropy is not None:
            per_token = per_token + settings.entropy_coef * negative_entropy(entropy)
        return self._aggregate(per_token, mask, totals, max_length=settings.max_new_tokens), sums
