"""Several texts in one row, each blind to the others.

A packed row restarts its position ids at every segment and comes without an attention mask. transformers reads that form
as block-diagonal causal attention (`find_packed_sequence_indices`; the same batches run with sdpa, eager and flash attention);
`stages/models/segments.py` attends it segment by segment.
A segment's first token is masked out of the loss, because nothing may predict it from the segment before.

Shape letters: T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from factory.errors import DataError

if TYPE_CHECKING:
    from factory.stages.models.codec import Codec, Encoded


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


def collate_packed(rows: Sequence[Sequence[Encoded]], codec: Codec, device: Any = None) -> dict[str, Tensor]:
    """All segments of all rows end to end, without any padding: `input_ids`, `loss_mask`, `position_ids`, each [1, T] int64.

    For a vision-language model `position_ids` is [4, 1, T] (text, time, height, width), and the images of the segments follow
    each other in `pixel_values` and `image_grid_thw`.

    No `attention_mask`: its absence together with restarting positions is what tells the model of the segments.
    """
    segments = [segment for row in rows for segment in row]
    ids = np.concatenate([np.asarray(segment.ids, dtype=np.int64) for segment in segments])
    # Nothing may predict a segment's first token from the segment before.
    learned = np.concatenate([np.asarray([0, *segment.loss_mask[1:]], dtype=np.int64) for segment in segments])
    positions = np.concatenate([codec.positions(segment) for segment in segments], axis=1)
    batch = {"input_ids": ids[None], "loss_mask": learned[None], "position_ids": positions[:1]}
    if codec.modality == "vl":
        batch |= {"position_ids": positions[:, None], "mm_token_type_ids": (ids == codec.image_id).astype(np.int64)[None]}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in batch.items()}
    if any(segment.pixels is not None for segment in segments):
        tensors["pixel_values"] = torch.cat([segment.pixels for segment in segments if segment.pixels is not None])
        tensors["image_grid_thw"] = torch.cat([segment.grid for segment in segments if segment.grid is not None])
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def packed_share(rows: Sequence[Sequence[Encoded]], pack_length: int) -> float:
    """Share of the rows' places that hold a token: 1 is a perfect fit."""
    return sum(len(segment.ids) for row in rows for segment in row) / max(1, len(rows) * pack_length)
