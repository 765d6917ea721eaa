"""The scalar head of a scorer: one number from a hidden state. Shape letters: B = rows, H = hidden size."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from factory.errors import ModelError

FILE_NAME = "value_head.safetensors"


class ValueHead(nn.Module):
    """A linear map to one number, without bias, always computed in float32.

    First weights are drawn from a normal distribution of variance 1/(H + 1) (Learning to summarize from human feedback,
    arXiv 2009.01325), from a seed of their own.
    """

    def __init__(self, hidden_size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(1, hidden_size, generator=generator) / (hidden_size + 1) ** 0.5)

    def forward(self, hidden_BH: Tensor) -> Tensor:
        """[B] float32."""
        # Autocast would round the score to bf16, about three digits: too few to rank two good answers.
        with torch.autocast(hidden_BH.device.type, enabled=False):
            return nn.functional.linear(hidden_BH.float(), self.weight.float()).squeeze(-1)


def save_head(head: ValueHead, folder: Path) -> None:
    """Write `value_head.safetensors` (float32)."""
    save_file({"weight": head.weight.detach().float().cpu().contiguous()}, folder / FILE_NAME)


def load_head(folder: Path, hidden_size: int) -> ValueHead:
    """Inverse of `save_head`. Raises ModelError: no such file, damaged, or made for another hidden size."""
    path = folder / FILE_NAME
    try:
        weight = load_file(path)["weight"]
    except (OSError, KeyError, SafetensorError) as err:
        raise ModelError(f"{path}: cannot be read ({err}). Is this the `scorer` folder of a reward_model stage?") from err
    if tuple(weight.shape) != (1, hidden_size):
        raise ModelError(f"{path}: has shape {list(weight.shape)}, its model needs [1, {hidden_size}]. Build the stage again.")
    head = ValueHead(hidden_size)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head
