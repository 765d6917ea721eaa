"""Log-probability and entropy of given tokens straight from the last hidden states: the [K, V] logits never exist as a whole.

The product with the output embedding runs in tiles that fit the processor's cache; each tile is folded into running sums (online
softmax: Milakov and Gimelshein, arXiv 1805.02867). The backward makes each tile again and uses it for both gradients at once, and
only for tokens whose gradient is not zero: clipped ones, and those of groups without spread, cost nothing.

Shape letters: K = learned tokens, H = width of the hidden states, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TILE_ROWS = 2048
TILE_NUMBERS = {"cpu": 2**20}
"""Logits of one tile. On a CPU, 4 MiB of them: measured best at 2 MiB of second-level cache or less per core."""
TILE_NUMBERS_GPU = 2**25
"""Elsewhere, 128 MiB: large enough that starting a kernel does not show."""


def plain_head(model: Any) -> nn.Linear | None:
    """The output embedding of a transformers model (bare or wrapped), or None when it is more than a matrix: an adapter sits on it."""
    head = getattr(model, "module", model).get_output_embeddings()
    return head if type(head) is nn.Linear and head.bias is None else None


def answering(head: nn.Linear, targets_K: Tensor, *, temperature: float) -> AbstractContextManager[None]:
    """Inside, `head(hidden [K, H])` gives [K, 2]: the log-probability of its target and the entropy, in place of logits."""

    def forward(hidden_KH: Tensor) -> Tensor:
        return torch.stack(_HeadLogprobs.apply(hidden_KH, head.weight, head, targets_K, temperature), dim=-1)

    return in_place_of_logits(head, forward)


@contextmanager
def in_place_of_logits(head: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, `head` computes `forward`.

    The model is called as ever and its hooks run, so that DDP, DeepSpeed (which gathers the matrix for this call and again for its
    backward) and peft wrap it as they do.
    """
    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def product_dtype(hidden_KH: Tensor) -> torch.dtype:
    """Format of products with these hidden states: autocast's where it is on."""
    kind = hidden_KH.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_KH.dtype


class _HeadLogprobs(torch.autograd.Function):
    """(logp [K], entropy [K]) in float32, both with gradients to the hidden states and to the matrix."""

    @staticmethod
    def forward(
        ctx: Any, hidden_KH: Tensor, weight_VH: Tensor, head: nn.Linear, targets_K: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.dtype = product_dtype(hidden_KH)
        with torch.autocast(hidden_KH.device.type, enabled=False):
            logp_K, log_norm_K, entropy_K = _statistics(hidden_KH, weight_VH, targets_K, temperature, ctx.dtype)
        ctx.head, ctx.temperature = head, temperature
        # The matrix itself is not saved: under ZeRO 3 it is whole only during the calls of its module.
        ctx.save_for_backward(hidden_KH, targets_K, log_norm_K, entropy_K)
        return logp_K, entropy_K

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, from_logp_K: Tensor | None, from_entropy_K: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_KH, targets_K, log_norm_K, entropy_K = ctx.saved_tensors
        zero_K = torch.zeros_like(log_norm_K)
        from_logp_K = zero_K if from_logp_K is None else from_logp_K.float()
        from_entropy_K = zero_K if from_entropy_K is None else from_entropy_K.float()
        live = ((from_logp_K != 0) | (from_entropy_K != 0)).nonzero().squeeze(-1)
        wants_entropy = bool((from_entropy_K != 0).any())
        with torch.autocast(hidden_KH.device.type, enabled=False):
            live_hidden, weight_VH = _gradients(
                hidden_KH[live], ctx.head.weight, targets_K[live], log_norm_K[live], from_logp_K[live],
                (from_entropy_K[live], entropy_K[live]) if wants_entropy else None,
                temperature=ctx.temperature, dtype=ctx.dtype, wants_weight=ctx.needs_input_grad[1],
            )  # fmt: skip
            from_hidden_KH = torch.zeros_like(hidden_KH).index_copy_(0, live, live_hidden.to(hidden_KH.dtype))
        return from_hidden_KH, weight_VH, None, None, None


def _statistics(
    hidden_KH: Tensor, weight_VH: Tensor, targets_K: Tensor, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(log-probability of the target, log of the normaliser, entropy), each [K] float32."""
    peak_K = hidden_KH.new_full((len(hidden_KH),), -torch.inf, dtype=torch.float32)
    norm_K, weighted_K, chosen_K = torch.zeros_like(peak_K), torch.zeros_like(peak_K), torch.zeros_like(peak_K)
    for rows, columns, tile in _tiles(hidden_KH, weight_VH, temperature, dtype):
        _take_targets(chosen_K, tile, targets_K, rows, columns)
        peak = torch.maximum(peak_K[rows], tile.amax(dim=-1))
        # Sums so far: norm = sum e^(z - peak), weighted = sum e^(z - peak) (z - peak); move both to the new peak.
        # The first tile meets empty sums and a peak of -inf, whose shift would be nan.
        shift = torch.where(norm_K[rows] > 0, peak_K[rows] - peak, 0.0)
        factor = shift.exp()
        tile -= peak[:, None]
        powers = tile.exp()
        weighted_K[rows] = factor * (weighted_K[rows] + shift * norm_K[rows]) + tile.mul_(powers).sum(dim=-1)
        norm_K[rows] = factor * norm_K[rows] + powers.sum(dim=-1)
        peak_K[rows] = peak
    log_norm_K = peak_K + norm_K.log()
    return chosen_K - log_norm_K, log_norm_K, norm_K.log() - weighted_K / norm_K


def _take_targets(chosen_K: Tensor, tile: Tensor, targets_K: Tensor, rows: slice, columns: slice) -> None:
    """Write the logits of the targets that lie in this tile."""
    local = targets_K[rows] - columns.start
    held = ((local >= 0) & (local < tile.shape[1])).nonzero().squeeze(-1)
    chosen_K[rows][held] = tile[held, local[held]]


def _gradients(
    hidden_KH: Tensor, weight_VH: Tensor, targets_K: Tensor, log_norm_K: Tensor, from_logp_K: Tensor,
    entropy: tuple[Tensor, Tensor] | None, *, temperature: float, dtype: torch.dtype, wants_weight: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Gradients of hidden states [K, H] (float32) and matrix [V, H] (its own format), from those of the log-probabilities.

    With p the softmax and z the logits: d logp / dz_j = [j is the target] - p_j, and d entropy / dz_j = -p_j (log p_j + entropy).
    `entropy`: (gradient that came to it, its value), or None when none came.
    """
    to_hidden_KH = torch.zeros(hidden_KH.shape, dtype=torch.float32, device=hidden_KH.device)
    to_weight_VH = torch.zeros_like(weight_VH, dtype=torch.float32) if wants_weight else None
    for rows, columns, tile in _tiles(hidden_KH, weight_VH, temperature, dtype):
        tile -= log_norm_K[rows, None]
        powers = tile.exp()
        if entropy is None:
            pull = powers.mul_(-from_logp_K[rows, None])
        else:
            toward, value = entropy[0][rows, None], entropy[1][rows, None]
            pull = powers.mul_(tile.add_(value).mul_(toward).add_(from_logp_K[rows, None])).neg_()
        pull = pull.to(dtype)
        to_hidden_KH[rows].add_(pull @ weight_VH[columns].to(dtype))
        if to_weight_VH is not None:
            to_weight_VH[columns].add_(pull.T @ hidden_KH[rows].to(dtype))
    to_hidden_KH.addcmul_(weight_VH[targets_K].float(), from_logp_K[:, None]).div_(temperature)
    if to_weight_VH is None:
        return to_hidden_KH, None
    to_weight_VH.index_add_(0, targets_K, hidden_KH.float() * from_logp_K[:, None]).div_(temperature)
    return to_hidden_KH, to_weight_VH.to(weight_VH.dtype)


def _tiles(hidden_KH: Tensor, weight_VH: Tensor, temperature: float, dtype: torch.dtype) -> Iterator[tuple[slice, slice, Tensor]]:
    """(rows, columns, logits of both in float32, divided by the temperature). The tile is the caller's to overwrite."""
    numbers = TILE_NUMBERS.get(hidden_KH.device.type, TILE_NUMBERS_GPU)
    for start in range(0, len(hidden_KH), TILE_ROWS):
        rows = slice(start, min(start + TILE_ROWS, len(hidden_KH)))
        part = hidden_KH[rows].to(dtype)
        width = max(TILE_ROWS, numbers // len(part))
        for begin in range(0, len(weight_VH), width):
            columns = slice(begin, min(begin + width, len(weight_VH)))
            tile = (part @ weight_VH[columns].to(dtype).T).float()
            yield rows, columns, tile if temperature == 1.0 else tile.div_(temperature)
