"""Black out parts of an encoded image, for objectives that ask how much an answer depends on it.

Shape letters: N = patches of all images, C = colours, F = frames of a patch, P = side of a patch in pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def blackened(pixels: Tensor, grid: Tensor, processor: Any, *, cell_px: int, probability: float, seed: int) -> Tensor:
    """`pixels` with square cells of each image set to black, each with a probability of its own draw.

    The cells lie on the image as the processor resized it, so they need not be the processor's patches: with patches of
    14 px (Qwen2-VL, Qwen2.5-VL) a cell of 14 px is one patch; with patches of 16 or 8 px a cell covers parts of several.

    Args:
        pixels: [N, C * F * P * P] float32, normalised, as from `encode_images`; not changed.
        grid: [n_images, 3] int64: time, height, width in patches; time is 1.
        processor: its `patch_size`, `merge_size`, `temporal_patch_size`, `image_mean` and `image_std` are used.
        cell_px: side of a cell, pixels. probability: of being blacked out. seed: equal seeds black out equal cells.
    """
    draws = torch.Generator().manual_seed(seed)
    hidden = torch.cat([_hidden(height, width, processor, cell_px, probability, draws) for _, height, width in grid.tolist()])
    colours, frames, side = len(processor.image_mean), int(processor.temporal_patch_size), int(processor.patch_size)
    black = torch.tensor([-mean / std for mean, std in zip(processor.image_mean, processor.image_std, strict=True)])
    whole = pixels.reshape(len(pixels), colours, frames, side, side)
    return torch.where(hidden[:, None, None], black.to(pixels)[None, :, None, None, None], whole).reshape(pixels.shape)


def _hidden(height: int, width: int, processor: Any, cell_px: int, probability: float, draws: torch.Generator) -> Tensor:
    """[height * width, P, P] bool: pixels under hidden cells, patches in the processor's order (merged blocks together)."""
    side, merge = int(processor.patch_size), int(processor.merge_size)
    rows, columns = height * side, width * side
    cells = torch.rand(-(-rows // cell_px), -(-columns // cell_px), generator=draws) < probability
    image = cells.repeat_interleave(cell_px, 0)[:rows].repeat_interleave(cell_px, 1)[:, :columns]
    blocks = image.reshape(height // merge, merge, side, width // merge, merge, side)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(height * width, side, side)
