"""Attention of packed rows, text by text: no mask of tokens x tokens, and no work for pairs that may not see each other.

transformers reads positions that restart within a row, given without an attention mask, as several texts laid end to end
(`find_packed_sequence_indices`). Its sdpa attention then builds a block-diagonal mask and multiplies all pairs of the row; here
every text is attended on its own, with the same kernel. The result is the same (tests/numerics/test_packing.py), the cost is the
sum of the squared lengths instead of the square of their sum. Rows with a mask, and cached generation, take sdpa's own way.

Shape letters: B = rows, H = heads, T = tokens, D = width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "factory_segments"


def attend_by_segment(model: Any) -> None:
    """Let a model that uses sdpa attention attend text by text in packed rows; others (flash, eager) have their own way."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, segment_attention)
        AttentionMaskInterface.register(NAME, segment_mask)
        model.set_attn_implementation(NAME)


def segment_mask(*, q_length: int, kv_length: int, attention_mask: Tensor | None = None, **settings: Any) -> Tensor | None:
    """None where the positions alone say what is seen (no padding, no cache, no window), else sdpa's mask."""
    if attention_mask is None and q_length == kv_length and settings.get("local_size") is None:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **settings)


def segment_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    position_ids: Tensor | None = None, **settings: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """[B, T, H, D] from query, key and value [B, H, T, D]; `position_ids` [B, T] restart at every text."""
    lengths = [] if attention_mask is not None or position_ids is None else segment_lengths(position_ids, query)
    if len(lengths) <= len(query):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    # Rows end to end. Split and joined as a whole, because slicing would make each gradient as large as the row.
    parts = (_in_a_line(tensor).split(lengths, dim=2) for tensor in (query, key, value))
    outputs = [sdpa_attention_forward(module, *part, None, **settings)[0] for part in zip(*parts, strict=True)]
    return torch.cat(outputs, dim=1).reshape(len(query), -1, *outputs[0].shape[2:]), None


def segment_lengths(position_ids: Tensor, query: Tensor) -> list[int]:
    """Lengths of the texts of all rows, in order; [] when queries and positions are not the same tokens (generation)."""
    if position_ids.shape[-1] != query.shape[2]:
        return []
    position_ids = position_ids.expand(len(query), -1)
    is_start = torch.diff(position_ids, prepend=position_ids[:, :1]) != 1  # true of every row's first token
    starts = is_start.flatten().nonzero().flatten().tolist()
    return [end - start for start, end in zip(starts, [*starts[1:], is_start.numel()], strict=True)]


def _in_a_line(tensor: Tensor) -> Tensor:
    """[1, H, B * T, D] of [B, H, T, D]; free for one row."""
    return tensor if len(tensor) == 1 else tensor.transpose(0, 1).flatten(1, 2)[None]
