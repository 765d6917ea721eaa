"""A whole-slide image from a seed: a generic tiled TIFF pyramid with JPEG tiles, as scanners write them, for `benchmarks/tiling.py`.

Stained tissue with nuclei and fine texture on bright glass, 0.5 microns per pixel. It is drawn, not scanned: its JPEG tiles
compress like tissue (about 2 bits per pixel), which is what reading costs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

MPP = 0.5
JPEG_QUALITY = 85


def make_slide(path: Path, *, side: int, seed: int, tile: int = 256) -> Path:
    """Write a square slide of `side` pixels with levels 1, 2 (each a quarter as wide). Needs tifffile and imagecodecs."""
    import tifffile

    picture = tissue(side, seed)
    per_cm = 10_000 / MPP
    settings = {
        "tile": (tile, tile), "photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": JPEG_QUALITY},
        "resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER",
    }  # fmt: skip
    with tifffile.TiffWriter(path) as file:
        file.write(picture, subifds=0, **settings)
        for level in (1, 2):
            small = picture[:: 4**level, :: 4**level]
            file.write(np.ascontiguousarray(small), subfiletype=1, **{**settings, "resolution": (per_cm / 4**level,) * 2})
    return path


def tissue(side: int, seed: int) -> np.ndarray:
    """[side, side, 3] uint8: an ellipse of eosin with haematoxylin nuclei and grain; white glass with faint noise around it."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    inside = (axis[:, None] ** 2 + axis[None, :] ** 2) < 0.8
    # Nuclei: blurred points, by adding shifted copies of a sparse field.
    points = rng.random((side, side), dtype=np.float32) > 0.9985
    nuclei = np.zeros((side, side), dtype=np.float32)
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            if dy * dy + dx * dx <= 25:
                nuclei += np.roll(points, (dy, dx), (0, 1))
    grain = rng.standard_normal((side, side), dtype=np.float32)
    fibre = grain + np.roll(grain, 1, 0) + np.roll(grain, 2, 0) + np.roll(grain, 1, 1)
    eosin = np.where(inside, 0.30 + 0.03 * fibre, 0.01 + 0.002 * grain)
    haematoxylin = np.where(inside, 0.08 + 0.7 * np.minimum(nuclei, 1.0), 0.0)
    density = haematoxylin[..., None] * np.array([0.65, 0.70, 0.29], np.float32)
    density += eosin[..., None] * np.array([0.07, 0.99, 0.11], np.float32)
    return np.clip(255 * np.exp(-density), 0, 255).astype(np.uint8)
