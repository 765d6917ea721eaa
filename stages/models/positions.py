"""Position ids: 1-D for text, multimodal (M-RoPE) for text with images. One small table per layout, cached.

Shape letters: T = tokens of one row. Source: Qwen2-VL, arXiv 2409.12191, section 2.1; equal to transformers'
`get_rope_index` for images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Span = tuple[int, int, int]
"""(index of the first image token, height, width) of one image; height and width in tokens, after merging."""


def image_spans(ids: Sequence[int], image_id: int, grids: Sequence[Sequence[int]], merge: int) -> tuple[Span, ...]:
    """Where each image's tokens lie in a row. `grids` are (time, height, width) in patches, time is 1 for an image."""
    spans, start = [], 0
    for _, height, width in grids:
        start = ids.index(image_id, start)
        spans.append((start, height // merge, width // merge))
        start += (height // merge) * (width // merge)
    return tuple(spans)


@lru_cache(maxsize=8192)
def mrope_positions(length: int, spans: tuple[Span, ...]) -> np.ndarray:
    """[3, T] int64, read-only: temporal, height and width position of each token.

    Text counts on in all three; an image holds time, spreads rows and columns, and the text after it goes on from the largest.
    """
    table = np.empty((3, length), dtype=np.int64)
    done, position = 0, 0
    for start, height, width in spans:
        table[:, done:start] = np.arange(position, position + start - done)
        position += start - done
        done = start + height * width
        table[0, start:done] = position
        table[1, start:done] = position + np.repeat(np.arange(height), width)
        table[2, start:done] = position + np.tile(np.arange(width), height)
        position += max(height, width)
    table[:, done:] = np.arange(position, position + length - done)
    table.setflags(write=False)
    return table
