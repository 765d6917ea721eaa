"""Arrays of pixels as PNG."""

from __future__ import annotations

import io

import numpy as np


def to_png(array: np.ndarray, longest: int) -> bytes:
    """PNG of [H, W] or [H, W, 3] uint8, made smaller when a side is longer than `longest` px; no metadata."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    if max(image.size) > longest:
        scale = longest / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()
