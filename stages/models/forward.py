"""Log-probabilities of given tokens: the one forward pass that training, reference models and probes share.

Shape letters: B = rows, T = tokens, K = learned tokens of the batch, V = vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "mm_token_type_ids", "pixel_values", "image_grid_thw")


def model_inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that a transformers model takes."""
    return {key: batch[key] for key in MODEL_INPUTS if key in batch}


def token_logprobs(
    model: Any, batch: dict[str, Tensor], *, temperature: float = 1.0, with_entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Log-probability of each learned token given the tokens before it.

    Args:
        model: a transformers model, bare or wrapped (peft, DDP, DeepSpeed).
        batch: from `Codec.collate`; tokens with `loss_mask` 0 cost no logits.
        temperature: logits are divided by it first, as the sampler does. Greedy sampling reports temperature 1.
        with_entropy: also return the entropy of each predicting distribution, in nats.

    Returns:
        logp [B, T] and entropy [B, T] (or None), float32. Position t speaks of input_ids[:, t]; 0 where `loss_mask` is 0
        and at position 0. Both carry gradients.
    """
    learned = batch["loss_mask"].bool()
    predicting = torch.zeros_like(learned)
    predicting[:, :-1] = learned[:, 1:]
    logits_KV = model(**model_inputs(batch), use_cache=False, logits_to_keep=predicting).logits.float()
    if temperature != 1.0:
        logits_KV = logits_KV / temperature
    targets_K = batch["input_ids"][:, 1:][learned[:, 1:]]
    log_norm_K = logits_KV.logsumexp(dim=-1)
    logp_K = logits_KV.gather(-1, targets_K[:, None]).squeeze(-1) - log_norm_K
    rows, columns = predicting.nonzero(as_tuple=True)
    entropy = None
    if with_entropy:
        entropy = _spread(log_norm_K - (logits_KV.softmax(dim=-1) * logits_KV).sum(dim=-1), rows, columns, learned)
    return _spread(logp_K, rows, columns, learned), entropy


def _spread(values_K: Tensor, rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """[B, T] with each value at the token it speaks of, one to the right of the column that predicts it."""
    return values_K.new_zeros(like.shape).index_put((rows, columns + 1), values_K)
