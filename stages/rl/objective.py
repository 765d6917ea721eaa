"""The RL loss as the Learner minimises it: policy loss x weights + KL + auxiliary terms, aggregated over the whole step.

Shape letters: B = rollouts, T = token positions (prompt and completion). All [B, T] tensors are aligned with `input_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from factory.stages.models.forward import token_logprobs
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.aggregate import counts
from factory.stages.rl.pieces.policy_loss import importance_ratio
from factory.stages.rl.presets import Chosen
from factory.stages.rl.rollouts import Rollout
from factory.stages.rl.tokens import KIND_CODES, TokenBatch

if TYPE_CHECKING:
    from factory.stages.models.codec import Codec, Encoded


@dataclass
class Row:
    """One rollout with its rendered prompt, ready to train on."""

    prompt: Encoded
    rollout: Rollout
    is_filler: bool = False
    """True for a copy that only keeps the processes in step: no gradient, not counted."""
    flags: list[float] = field(default_factory=list)
    """1 for the tokens that a piece's `flag` chose, one per completion token."""

    sample_id: str = ""
    masked_prompt: Encoded | None = None
    """The prompt with part of its image hidden, where a piece trains through that view."""

    def encoded(self, codec: Codec) -> Encoded:
        """Prompt and completion as one sequence; the loss mask is 1 exactly on the tokens that the policy (or a teacher) wrote."""
        return codec.lengthened(self.prompt, self.rollout.ids, self.rollout.trained(), self.rollout.images)

    def masked_view(self, codec: Codec) -> Encoded:
        """As `encoded`, of the masked prompt; the same as `encoded` where there is none."""
        return replace(self, prompt=self.masked_prompt or self.prompt).encoded(codec)

    @property
    def has_view(self) -> bool:
        """True when log-probs of a masked image are there, or will be made with gradient."""
        return bool(self.rollout.masked_logprobs) or self.masked_prompt is not None

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt.ids) + len(self.rollout.ids)


def make_batch(rows: Sequence[Row], codec: Codec, device: torch.device | None) -> dict[str, Tensor]:
    """The model's inputs, and what `TokenBatch` holds beside the log-probs: float32 [B, T], `kinds` [B] int64."""
    batch = dict(codec.collate([row.encoded(codec) for row in rows], left=False, device=device))
    shape = batch["input_ids"].shape

    def aligned(of: Any, empty: float) -> Tensor:
        tensor = torch.full(shape, empty)
        for b, row in enumerate(rows):
            values = of(row)
            if values:
                tensor[b, len(row.prompt.ids) : row.length] = torch.tensor(values, dtype=torch.float32)
        return tensor.to(device)

    if any(row.masked_prompt is not None for row in rows):
        views = [row.masked_view(codec) for row in rows]
        batch["masked_pixel_values"] = torch.cat([view.pixels for view in views if view.pixels is not None]).to(device)
    is_live = torch.tensor([[float(not row.is_filler)] for row in rows])
    batch["policy_mask"] = batch["loss_mask"].float() * is_live.to(device)
    batch["old_logprobs"] = aligned(lambda row: row.rollout.logprobs, 0.0)
    batch["ref_logprobs"] = aligned(lambda row: row.rollout.ref_logprobs, 0.0)
    batch["masked_logprobs"] = aligned(lambda row: row.rollout.masked_logprobs, 0.0)
    batch["advantages"] = aligned(lambda row: row.rollout.per_token_advantages(), 0.0)
    batch["weights"] = aligned(lambda row: _weights(row.rollout), 1.0)
    batch["kl_weights"] = aligned(lambda row: [row.rollout.kl_weight] * len(row.rollout.ids), 1.0)
    batch["flags"] = aligned(lambda row: row.flags, 0.0)
    batch["right"] = torch.tensor([float(row.rollout.right) for row in rows], device=device)
    batch["has_view"] = torch.tensor([[float(row.has_view)] for row in rows], device=device)
    batch["kinds"] = torch.tensor([KIND_CODES[row.rollout.kind] for row in rows], device=device)
    return batch


def _weights(rollout: Rollout) -> list[float]:
    per_token = rollout.token_weights or [1.0] * len(rollout.ids)
    return [rollout.weight * weight for weight in per_token]


class PolicyObjective:
    """An `Objective` of the Learner, put together from the chosen pieces for one RL step.

    Args:
        chosen: the pieces. ctx: the step. kl_coef: coefficient of the KL in the loss at this step, 0 for none.
        temperature: at which the rollouts were sampled.
    """

    def __init__(self, chosen: Chosen, ctx: StepContext, *, temperature: float, kl_coef: float = 0.0) -> None:
        self._ctx, self._temperature, self._kl_coef = ctx, temperature, kl_coef
        self._loss, self._aggregate, self._kl = chosen.one("loss"), chosen.one("aggregator"), chosen.one("kl")
        self._auxiliary = chosen.many("auxiliary")
        self._wants_view = any(getattr(term, "recompute", False) for term in self._auxiliary)

    def counts(self, batch: Mapping[str, Any]) -> Mapping[str, float]:
        """Trained tokens and rollouts of this micro-batch, and what the loss itself divides by."""
        own = self._loss.counts(batch) if hasattr(self._loss, "counts") else {}
        return {**counts(batch["policy_mask"]), **own}

    def loss(self, model: nn.Module, batch: Mapping[str, Any], totals: Mapping[str, float]) -> tuple[Tensor, Mapping[str, float]]:
        """This micro-batch's share of the loss; sums over its trained tokens of entropy, clip hits and KL."""
        tokens = self.tokens(model, batch, totals)
        surrogate = self._loss(tokens)
        per_token = surrogate.loss * tokens.weights
        sums = {"entropy_sum": float((tokens.entropy * tokens.mask).detach().sum())}
        for name in ("clipped_low", "clipped_high"):
            hits = getattr(surrogate, name)
            if hits is not None:
                sums[name] = float((hits * tokens.mask).sum())
        if self._kl is not None and self._kl_coef:
            kl = self._kl(tokens.logp, tokens.ref)
            if self._kl.unbiased:
                kl = kl * importance_ratio(tokens.logp, tokens.old)
            per_token = per_token + self._kl_coef * tokens.kl_weights * kl
            sums["kl_sum"] = float((kl * tokens.mask).detach().sum())
        for term in self._auxiliary:
            added = term(self._ctx, tokens)
            per_token = per_token + added
            sums[f"auxiliary/{term.key}"] = float((added * tokens.mask).detach().sum())
        return self._aggregate(per_token, tokens.mask, totals, max_length=self._ctx.max_new_tokens), sums

    def tokens(self, model: nn.Module, batch: Mapping[str, Any], totals: Mapping[str, float]) -> TokenBatch:
        """Run the model on a micro-batch and line everything up for the pieces."""
        logp, entropy = token_logprobs(model, dict(batch), temperature=self._temperature, with_entropy=True)
        masked = batch["masked_logprobs"]
        if self._wants_view and "masked_pixel_values" in batch:
            view = {**batch, "pixel_values": batch["masked_pixel_values"]}
            masked = token_logprobs(model, view, temperature=self._temperature)[0] * batch["has_view"]
        return TokenBatch(
            logp=logp, old=batch["old_logprobs"], ref=batch["ref_logprobs"], masked=masked, has_view=batch["has_view"],
            mask=batch["policy_mask"], advantages=batch["advantages"], weights=batch["weights"], kl_weights=batch["kl_weights"],
            flags=batch["flags"], kinds=batch["kinds"], right=batch["right"], totals=totals, entropy=entropy,
        )  # fmt: skip
