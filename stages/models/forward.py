"""Log-probabilities of given tokens: the one forward pass that training, reference models and probes share.

A model whose output embedding is a plain matrix never makes whole logits: see `head.py`, and `head_nll.py` for their sum.

Shape letters: B = rows, T = tokens, K = learned tokens of the batch, V = vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from factory.stages.models.head import answering, plain_head
from factory.stages.models.head_nll import summing

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
    predicting, targets_K, asked = _asked(batch, learned)
    head = plain_head(model)
    if head is None:
        logp_K, entropy_K = logits_logprobs(model(**asked).logits, targets_K, temperature, with_entropy=with_entropy)
    else:
        with answering(head, targets_K, temperature=temperature):
            logp_K, entropy_K = model(**asked).logits.float().unbind(-1)
    rows, columns = predicting.nonzero(as_tuple=True)
    entropy = _spread(entropy_K, rows, columns, learned) if with_entropy else None
    return _spread(logp_K, rows, columns, learned), entropy


def summed_nll(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Sum over the learned tokens of -log p, in nats: what `token_logprobs` gives, summed, in less time. It goes backward once.

    Args:
        model: a transformers model, bare or wrapped (peft, DDP, DeepSpeed).
        batch: from `Codec.collate`; tokens with `loss_mask` 0 and the first column cost no logits.

    Returns:
        A scalar, float32, with gradients.
    """
    head = plain_head(model)
    if head is None:
        return -token_logprobs(model, batch)[0].sum()
    _, targets_K, asked = _asked(batch, batch["loss_mask"].bool())
    with summing(head, targets_K):
        return model(**asked).logits.float().sum()


def _asked(batch: dict[str, Tensor], learned: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """(columns that predict a learned token [B, T], those tokens [K], arguments of the model that ask for these alone)."""
    predicting = torch.zeros_like(learned)
    predicting[:, :-1] = learned[:, 1:]
    targets_K = batch["input_ids"][:, 1:][learned[:, 1:]]
    return predicting, targets_K, {**model_inputs(batch), "use_cache": False, "logits_to_keep": predicting}


def logits_logprobs(
    logits_KV: Tensor, targets_K: Tensor, temperature: float, *, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """The same from whole logits: (logp [K], entropy [K] or None), float32. What `head.py` must equal."""
    logits_KV = logits_KV.float()
    if temperature != 1.0:
        logits_KV = logits_KV / temperature
    log_norm_K = logits_KV.logsumexp(dim=-1)
    logp_K = logits_KV.gather(-1, targets_K[:, None]).squeeze(-1) - log_norm_K
    return logp_K, log_norm_K - (logits_KV.softmax(dim=-1) * logits_KV).sum(dim=-1) if with_entropy else None


def _spread(values_K: Tensor, rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """[B, T] with each value at the token it speaks of, one to the right of the column that predicts it."""
    return values_K.new_zeros(like.shape).index_put((rows, columns + 1), values_K)
