"""Summed negative log-likelihood of given tokens from the last hidden states, with its gradient made in the same pass.

Where tokens count alike, as in CPT and SFT, the gradient of the sum is known before the backward, but for one factor. So each block
of rows makes its logits once, turns them into their own gradient (softmax minus one at the target) and multiplies it out, as the Liger
kernel does (arXiv 2410.10989, section 3.2): three products in place of the four of `head.py`, one exponential in place of two.
The price: it serves a sum only, and the gradient of the matrix lies there from the forward on.

Shape letters: K = learned tokens, H = width of the hidden states, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from factory.stages.models.head import in_place_of_logits, product_dtype

BLOCK_NUMBERS = {"cpu": 2**22}
"""Logits of one block of rows. On a CPU, 16 MiB of them: the best of seven sizes at a vocabulary of 32k (docs/log.md)."""
BLOCK_NUMBERS_ELSEWHERE = 2**25
LEAST_ROWS = 128
"""Fewer rows would read the matrix more often than it pays."""


def summing(head: nn.Linear, targets_K: Tensor) -> AbstractContextManager[None]:
    """Inside, `head(hidden [K, H])` gives [1]: the sum of -log p of the targets, in float32, in place of logits."""

    def forward(hidden_KH: Tensor) -> Tensor:
        return _HeadNLL.apply(hidden_KH, head.weight, targets_K, torch.is_grad_enabled())

    return in_place_of_logits(head, forward)


class _HeadNLL(torch.autograd.Function):
    """[1] in float32, with gradients to the hidden states and to the matrix."""

    @staticmethod
    def forward(ctx: Any, hidden_KH: Tensor, weight_VH: Tensor, targets_K: Tensor, goes_back: bool) -> Tensor:
        dtype = product_dtype(hidden_KH)
        wants_hidden, wants_weight = (goes_back and wanted for wanted in ctx.needs_input_grad[:2])
        with torch.autocast(hidden_KH.device.type, enabled=False):
            total, *gradients = _sum_and_gradients(hidden_KH, weight_VH, targets_K, dtype, wants_hidden, wants_weight)
        ctx.gradients = gradients
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the summed likelihood goes backward once: its gradients are scaled where they lie")
        from_hidden_KH, from_weight_VH = ctx.gradients
        ctx.gradients = None
        for gradient in (from_hidden_KH, from_weight_VH):
            if gradient is not None:
                gradient.mul_(factor)
        return from_hidden_KH, from_weight_VH, None, None


def _sum_and_gradients(
    hidden_KH: Tensor, weight_VH: Tensor, targets_K: Tensor, dtype: torch.dtype, wants_hidden: bool, wants_weight: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(sum of -log p [1], its gradients to hidden states [K, H] and matrix [V, H], each in its tensor's format or None)."""
    total = torch.zeros(1, dtype=torch.float32, device=hidden_KH.device)
    from_hidden_KH = torch.empty_like(hidden_KH) if wants_hidden else None
    from_weight_VH = torch.zeros_like(weight_VH, dtype=torch.float32) if wants_weight else None
    matrix_VH = weight_VH.to(dtype)
    numbers = BLOCK_NUMBERS.get(hidden_KH.device.type, BLOCK_NUMBERS_ELSEWHERE)
    for part, targets, place in _blocks(hidden_KH, targets_K, max(LEAST_ROWS, numbers // len(weight_VH))):
        part = part.to(dtype)
        logits = (part @ matrix_VH.T).float()
        logits -= logits.amax(dim=-1, keepdim=True)
        chosen = logits.gather(-1, targets[:, None])
        powers = logits.exp_()
        norm = powers.sum(dim=-1, keepdim=True)
        total += (norm.log() - chosen).sum()
        if from_hidden_KH is None and from_weight_VH is None:
            continue
        pull = powers.div_(norm).scatter_add_(-1, targets[:, None], -torch.ones_like(norm)).to(dtype)
        if from_hidden_KH is not None:
            from_hidden_KH[place] = (pull @ matrix_VH).to(hidden_KH.dtype)
        if from_weight_VH is not None:
            _add_product(from_weight_VH, pull.T, part)
    return total, from_hidden_KH, None if from_weight_VH is None else from_weight_VH.to(weight_VH.dtype)


def _add_product(sum_VH: Tensor, pull_VK: Tensor, part_KH: Tensor) -> None:
    """sum += pull x part; in one pass where both are float32."""
    if part_KH.dtype == sum_VH.dtype:
        sum_VH.addmm_(pull_VK, part_KH)
    else:
        sum_VH += pull_VK @ part_KH


def _blocks(hidden_KH: Tensor, targets_K: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """(hidden states, targets, place) of each block of rows."""
    for start in range(0, len(hidden_KH), rows):
        place = slice(start, start + rows)
        yield hidden_KH[place], targets_K[place], place
