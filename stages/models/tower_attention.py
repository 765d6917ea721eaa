"""Attention of a Qwen-VL tower, images (or windows) of one size in one call.

transformers calls its attention once for every image of a batch and once for every window of Qwen2.5-VL's towers, though most of
them are of one size: tiles of a slide, frames of a video, all windows but those at an image's edge. Neighbours of one size are
attended together here, with the same kernel, so the sums are the same (tests/models/test_tower_attention.py); flash attention takes
all sizes at once and keeps its own way.

Shape letters: P = patches of all images, H = heads, D = width of a head, N = neighbours of one size, L = patches of each.
"""

from __future__ import annotations

import itertools
import sys
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from factory.stages.models.segments import NAME

KINDS = ("Qwen2_5_VLVisionAttention", "Qwen3VLVisionAttention")
"""Modules of transformers with one product for queries, keys and values, rotary positions and `cu_seqlens`."""


def attend_by_size(tower: nn.Module) -> int:
    """Let the attention modules of a tower take neighbours of one size together; how many there are."""
    found = [module for module in tower.modules() if type(module).__name__ in KINDS]
    for module in found:
        module.forward = MethodType(_forward, module)
    return len(found)


def runs_of_one_size(sizes: list[int]) -> list[tuple[int, int]]:
    """(N, L) of neighbours that are equally long, in order."""
    return [(len(list(run)), size) for size, run in itertools.groupby(sizes)]


def _forward(self: Any, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: Any = None, **more: Any) -> Tensor:
    """[P, H x D] from hidden states [P, H x D]; `cu_seqlens` are the borders between images, `position_embeddings` cos and sin [P, D]."""
    runs = runs_of_one_size(cu_seqlens.diff().tolist())
    if self.config._attn_implementation not in ("sdpa", NAME) or all(count == 1 for count, _ in runs):
        return type(self).forward(self, hidden_states, cu_seqlens, position_embeddings=position_embeddings, **more)
    rotate = sys.modules[type(self).__module__].apply_rotary_pos_emb_vision
    query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).unbind(1)
    query, key = rotate(query, key, *position_embeddings)
    # Split and joined as a whole, because slicing would make each gradient as large as the whole.
    parts = (tensor.split([count * size for count, size in runs]) for tensor in (query, key, value))
    each = zip(runs, zip(*parts, strict=True), strict=True)
    outputs = [self_attention(*part, count, scale=self.scaling) for (count, _), part in each]
    return self.proj(torch.cat(outputs) if len(outputs) > 1 else outputs[0])


def self_attention(query: Tensor, key: Tensor, value: Tensor, count: int, scale: float) -> Tensor:
    """[N x L, H x D] from query, key and value [N x L, H, D]: each of the `count` = N parts sees itself, all of it."""
    query, key, value = (tensor.unflatten(0, (count, -1)).transpose(1, 2) for tensor in (query, key, value))
    found = functional.scaled_dot_product_attention(query, key, value, scale=scale)
    return found.transpose(1, 2).flatten(2).flatten(0, 1)
