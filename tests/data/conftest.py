"""Small real files for the loader tests: pictures, tables and pyramidal slides, all written at test time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from factory.data.rows import RowReport, read_rows


def png(colour: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    """Encoded noise that differs by `colour`."""
    pixels = np.random.default_rng(colour).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def lines(rows: Sequence[Any]) -> str:
    """Rows as JSON lines; strings are written as they are."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def stained_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8: white glass with a pink and violet block of tissue in the middle half."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 243, dtype=np.uint8) + rng.integers(0, 4, (height, width, 3), dtype=np.uint8)
    top, left = height // 4, width // 4
    block = np.array([205, 120, 175], dtype=np.int16) + rng.integers(-25, 25, (height // 2, width // 2, 3))
    pixels[top : top + height // 2, left : left + width // 2] = block.clip(0, 255).astype(np.uint8)
    return pixels


def write_slide(path: Path, pixels: np.ndarray, *, mpp: float | None = 0.5, levels: int = 3, jpeg: bool = False) -> Path:
    """A tiled pyramidal TIFF, each level half of the one before and a page of its own."""
    tifffile = pytest.importorskip("tifffile")
    resolution: dict[str, Any] = {}
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            if mpp is not None:
                per_cm = 10_000 / (mpp * 2**level)
                resolution = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            form = {"compression": "jpeg", "compressionargs": {"level": 85}} if jpeg else {}
            writer.write(
                pixels, tile=(64, 64), photometric="rgb", subfiletype=1 if level else 0, metadata=None, **resolution, **form
            )
            height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
            pixels = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    return path


@pytest.fixture
def read_all() -> Callable[[Path], tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str, str]]]]:
    """Read a table; return (row number, row) of the good rows and (row number, field, reason) of the bad ones."""

    def read(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str, str]]]:
        report = RowReport(max_bad_fraction=1.0)
        good = [(ref.row, row) for ref, row in read_rows(path, report)]
        assert all(bad.file == path.name for bad in report.first_bad)
        return good, [(bad.row, bad.field, bad.reason) for bad in report.first_bad]

    return read
