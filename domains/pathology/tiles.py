"""Square tiles of a slide at one target resolution, each with the place it came from.

Units: `mpp` is microns per pixel; x, y and `size0` are level-0 pixels; `px` is the side of the tile as cut.
"""

from __future__ import annotations

import io
import random
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from factory.contracts import Media
from factory.data.rows import RowFault
from factory.domains.pathology.slides import SlideReader, TissueMask, slide_mpp, tissue_mask
from factory.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_UPSAMPLING = 1.05
"""A tile may be magnified this much beyond the scan to meet the target; more would invent detail."""


@dataclass(frozen=True)
class TileOptions:
    """How slides are cut; the keys of `pack.*` with these names."""

    tile_px: int = 512
    tile_mpp: float = 0.5
    """0.5 is what a 20x objective gives."""
    tiles_per_slide: int = 64
    min_tissue: float = 0.5
    """Least share of tissue in a tile."""
    mpp_override: float | None = None
    """Microns per level-0 pixel, for slides that do not record it or record it wrongly."""
    slide_backend: str = "openslide"

    def __post_init__(self) -> None:
        problems = {
            "tile_px": "16 or more" if self.tile_px < 16 else "",
            "tile_mpp": "above 0" if self.tile_mpp <= 0 else "",
            "tiles_per_slide": "1 or more" if self.tiles_per_slide < 1 else "",
            "min_tissue": "between 0 and 1" if not 0 <= self.min_tissue <= 1 else "",
            "mpp_override": "above 0, or null" if self.mpp_override is not None and self.mpp_override <= 0 else "",
        }
        for name, rule in problems.items():
            if rule:
                raise ConfigError(f"pack.{name} is {getattr(self, name)!r}; it must be {rule}.")


@dataclass(frozen=True, slots=True)
class Tile:
    """Where one tile lies. `key` holds all of it, so that an id leads back to the slide."""

    slide_id: str
    x: int
    y: int
    size0: tuple[int, int]
    """(width, height) in level-0 pixels."""
    px: int
    mpp: float

    @property
    def key(self) -> str:
        """`slide@x=1024,y=0,w=1024,h=1024,px=512,mpp=0.5`."""
        return f"{self.slide_id}@x={self.x},y={self.y},w={self.size0[0]},h={self.size0[1]},px={self.px},mpp={self.mpp!r}"

    @classmethod
    def from_key(cls, key: str) -> Tile:
        """Inverse of `key`. Raises DataError when it is none."""
        hit = re.fullmatch(r"(.+)@x=(\d+),y=(\d+),w=(\d+),h=(\d+),px=(\d+),mpp=([\d.e-]+)", key, re.DOTALL)
        if hit is None:
            raise DataError(f"{key!r} is no tile key; one looks like slide@x=0,y=0,w=1024,h=1024,px=512,mpp=0.5.")
        slide_id, x, y, w, h, px, mpp = hit.groups()
        return cls(slide_id, int(x), int(y), (int(w), int(h)), int(px), float(mpp))

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for a sample's meta."""
        return {**asdict(self), "size0": list(self.size0)}


def plan_tiles(slide_id: str, reader: SlideReader, options: TileOptions, seed: int) -> list[Tile]:
    """Tiles of a slide that hold enough tissue: a grid without overlap, thinned by `seed` to `tiles_per_slide`, in reading order.

    Raises:
        RowFault: no resolution recorded, a target finer than the scan, a slide smaller than one tile, or no tissue.
    """
    mpp = slide_mpp(reader, options.mpp_override)
    if max(mpp) > options.tile_mpp * MAX_UPSAMPLING:
        scanned = f"scanned at {max(mpp):.4g} microns per pixel"
        raise RowFault("mpp", f"{scanned}; tiles of {options.tile_mpp} would invent detail. Set pack.tile_mpp higher.")
    step = tuple(options.tile_px * options.tile_mpp / axis for axis in mpp)
    columns, rows = int(reader.size[0] / step[0] + 1e-6), int(reader.size[1] / step[1] + 1e-6)
    if not columns or not rows:
        needed = " x ".join(str(round(side)) for side in step)
        size = f"{reader.size[0]} x {reader.size[1]}"
        raise RowFault("size", f"{size} pixels is less than one tile ({needed}). Lower pack.tile_px.")
    tissue = tissue_mask(reader)
    size0 = (round(step[0]), round(step[1]))
    corners = [(round(i * step[0]), round(j * step[1])) for j in range(rows) for i in range(columns)]
    kept = [corner for corner in corners if tissue.share_in(*corner, *size0) >= max(options.min_tissue, 1e-9)]
    if not kept:
        raise RowFault("tissue", _no_tissue(tissue, len(corners), options))
    if len(kept) > options.tiles_per_slide:
        kept = sorted(random.Random(f"{seed}-{slide_id}").sample(kept, options.tiles_per_slide), key=lambda xy: (xy[1], xy[0]))
    return [Tile(slide_id, x, y, size0, options.tile_px, options.tile_mpp) for x, y in kept]


def _no_tissue(tissue: TissueMask, num_tiles: int, options: TileOptions) -> str:
    if tissue.share < 0.001:
        return "the slide is background only: no stained tissue found. Check that the right file was scanned."
    return (
        f"{tissue.share:.1%} of the slide is tissue, but none of its {num_tiles} tiles holds {options.min_tissue:.0%}. "
        "Lower pack.min_tissue or pack.tile_px."
    )


def cut_tile(reader: SlideReader, tile: Tile) -> Image:
    """[px, px] RGB picture of a tile: read from the coarsest level that is still fine enough, then resampled exactly.

    Raises:
        RowFault: the pixels cannot be decoded.
    """
    from PIL import Image as Pictures

    wanted = min(tile.size0) / tile.px
    level = max((i for i, factor in enumerate(reader.downsamples) if factor <= wanted * 1.001), default=0)
    factor = reader.downsamples[level]
    span = (max(1, round(tile.size0[0] / factor)), max(1, round(tile.size0[1] / factor)))
    region = reader.read(tile.x, tile.y, level, span)
    return region if span == (tile.px, tile.px) else region.resize((tile.px, tile.px), Pictures.Resampling.LANCZOS)


def encode(picture: Image) -> Media:
    """The pixels alone as a plain TIFF: nothing of the slide's metadata travels with a tile.

    Uncompressed: stained tissue becomes an eighth smaller as PNG, which takes four times as long as reading it from the slide.
    """
    out = io.BytesIO()
    picture.save(out, "TIFF")
    return Media(data=out.getvalue())
