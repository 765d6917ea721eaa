"""Beer-Lambert stain model: concentrations of three stains to RGB, and the rule that tells H&E from DAB by colour.

Shape letters: H, W = tile height and width in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HAEMATOXYLIN = (0.65, 0.70, 0.29)
"""Optical density of haematoxylin (nuclei, blue) in red, green, blue; scaled to unit norm before use."""
EOSIN = (0.07, 0.99, 0.11)
"""Optical density of eosin (cytoplasm and stroma, pink)."""
DAB = (0.27, 0.57, 0.78)
"""Optical density of diaminobenzidine (immunohistochemistry, brown)."""

MAGENTA_THRESHOLD = 25.0
"""Mean magenta excess, in 8-bit grey levels, above which a tile is called H&E.

Half-way between the two real tiles that were measured: about 50 (H&E) and 0.9 (DAB).
"""


def unit(vector: tuple[float, float, float]) -> np.ndarray:
    """[3] float32, the vector scaled to length one."""
    row = np.asarray(vector, dtype=np.float32)
    return row / np.linalg.norm(row)


STAINS = np.stack([unit(HAEMATOXYLIN), unit(EOSIN), unit(DAB)])
"""[3, 3] float32: stain (haematoxylin, eosin, DAB) x colour."""


def to_rgb(concentrations: np.ndarray) -> np.ndarray:
    """Light that passes the tissue: `I = 255 exp(-sum_s c_s v_s)`.

    Args:
        concentrations: [H, W, 3] float, haematoxylin, eosin and DAB; in optical density units, negative counts as 0.

    Returns:
        [H, W, 3] uint8.

    Source: Ruifrok and Johnston 2001; a clear pixel is 255.
    """
    density = np.maximum(concentrations, 0.0).astype(np.float32) @ STAINS
    return (255.0 * np.exp(-density) + 0.5).astype(np.uint8)


def magenta_excess(pixels: Any) -> float:
    """mean((R + B) / 2 - G) over all pixels, in grey levels.

    Args:
        pixels: [H, W, 3] 8-bit RGB. Eosin takes green only, so H&E is strongly positive; DAB takes blue as well, so it is near 0.
    """
    rgb = np.asarray(pixels, dtype=np.float32)
    return float(((rgb[..., 0] + rgb[..., 2]) / 2.0 - rgb[..., 1]).mean())


def stain_by_colour(pixels: Any) -> str:
    """`he` or `ihc`, by the magenta excess alone. A sanity rule for tiles, not a diagnostic tool."""
    return "he" if magenta_excess(pixels) > MAGENTA_THRESHOLD else "ihc"
