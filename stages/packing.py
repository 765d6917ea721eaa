"""Several texts in one row of fixed length, each blind to the others.

A packed row restarts its position ids at every segment and comes without an attention mask. transformers reads that form
as block-diagonal causal attention (`find_packed_sequence_indices`; the same batches run with sdpa, eager and flash attention).
A segment's first token is masked out of the loss, because nothing may predict it from the segment before.

Shape letters: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from factory.errors import DataError

if TYPE_CHECKING:
    from factory.stages.models.codec import Encoded


def cut(encoded: Encoded, max_length: int) -> Encoded:
    """The first `max_length` tokens.

    Raises:
        DataError: an image would be cut; its tokens and its pixels must stay together.
    """
    if len(encoded.ids) <= max_length:
        return encoded
    if encoded.pixels is not None:
        raise DataError(
            f"a row with images has {len(encoded.ids)} tokens, more than the limit of {max_length}. "
            "Raise max_length (pack_length for cpt), or give smaller or fewer images."
        )
    return replace(encoded, ids=encoded.ids[:max_length], loss_mask=encoded.loss_mask[:max_length])


def chunks(encoded: Encoded, length: int) -> list[Encoded]:
    """A long text as consecutive pieces of at most `length` tokens, each a segment of its own; nothing is dropped."""
    return [
        replace(encoded, ids=encoded.ids[start : start + length], loss_mask=encoded.loss_mask[start : start + length])
        for start in range(0, len(encoded.ids), length)
    ]


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of the segments of each row: longest first, each into the first row with room (ties by index).

    At most 11/9 of the best possible number of rows, plus one (first-fit decreasing, Dosa et al. 2013).

    Raises:
        DataError: a segment is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[index] > capacity:
            raise DataError(f"{lengths[index]} tokens do not fit a row of {capacity}; cut the text first.")
        row = next((r for r, free in enumerate(room) if free >= lengths[index]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def pack(encoded: Sequence[Encoded], pack_length: int) -> list[list[Encoded]]:
    """Rows of text segments, each row at most `pack_length` tokens; longer texts are cut into chunks."""
    segments = [piece for text in encoded for piece in chunks(text, pack_length)]
    return [[segments[i] for i in row] for row in first_fit([len(s.ids) for s in segments], pack_length)]


def collate_packed(
    rows: Sequence[Sequence[Encoded]], *, pad_id: int, is_vl: bool = False, device: Any = None
) -> dict[str, Tensor]:
    """Batch of packed rows: `input_ids`, `position_ids`, `loss_mask`, each [B, T] int64, T = the longest row.

    For a vision-language model `position_ids` is [4, B, T] (text, time, height, width), all four equal, as text has it.

    No `attention_mask`: its absence together with restarting positions is what tells the model of the segments.
    The padding at the end is one more segment, with loss_mask 0.
    """
    num_columns = max(sum(len(segment.ids) for segment in row) for row in rows)
    input_ids = torch.full((len(rows), num_columns), pad_id, dtype=torch.long)
    position_ids = torch.zeros((len(rows), num_columns), dtype=torch.long)
    loss_mask = torch.zeros((len(rows), num_columns), dtype=torch.long)
    for b, row in enumerate(rows):
        start = 0
        for segment in row:
            end = start + len(segment.ids)
            input_ids[b, start:end] = torch.tensor(segment.ids)
            position_ids[b, start:end] = torch.arange(end - start)
            loss_mask[b, start + 1 : end] = torch.tensor(segment.loss_mask[1:], dtype=torch.long)
            start = end
        position_ids[b, start:] = torch.arange(num_columns - start)
    if is_vl:
        position_ids = position_ids.expand(4, -1, -1).contiguous()
    batch = {"input_ids": input_ids, "position_ids": position_ids, "loss_mask": loss_mask}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def packed_share(rows: Sequence[Sequence[Encoded]], pack_length: int) -> float:
    """Share of the rows' places that hold a token: 1 is a perfect fit."""
    return sum(len(segment.ids) for row in rows for segment in row) / max(1, len(rows) * pack_length)
