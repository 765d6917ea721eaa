"""Slide tiling (mask, tile, write) against a raw openslide read of the same tiles, and against MONAI and tiatoolbox.

    [TIATOOLBOX_PYTHON=ITS_VENV/bin/python] python benchmarks/tiling.py [--quick] [--json FILE] [--seed N]

The slide is drawn from the seed (`toy_slide.py`): a tiled TIFF pyramid with JPEG tiles. Rates are tiles per CPU second of one
thread, each side in a process of its own that opens the slide anew for every repeat, as a data loader does.

- ours: find the tissue, choose the tiles, read, write each as a lossless file (`domains/pathology`: uncompressed TIFF);
- raw: `openslide.read_region` of exactly these tiles, thrown away;
- MONAI: `WSIReader` reads these tiles, Pillow writes the same files; no mask is sought;
- tiatoolbox: its extractor reads these tiles, Pillow writes the same files; no mask is sought. Skipped when it is not installed.

Before anything is timed, the pixels of all sides are compared.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, cpu_seconds, main, repeated, versions  # noqa: E402

PX = 512
MPP = 0.5


def ours(slide: str, repeats: int) -> dict[str, Any]:
    """Rates of mask + tile + write, and of the parts; the corners of the tiles and a digest of their pixels."""
    from contextlib import closing

    import numpy as np

    from factory.domains.pathology.slides import open_slide, tissue_mask
    from factory.domains.pathology.tiles import TileOptions, cut_tile, encode, plan_tiles

    options = TileOptions(tile_px=PX, tile_mpp=MPP, tiles_per_slide=10**6)
    found: list[Any] = []

    def work() -> None:
        with closing(open_slide(Path(slide))) as reader, tempfile.TemporaryDirectory() as folder:
            found[:] = plan_tiles("slide", reader, options, 0)
            for tile in found:
                (Path(folder) / f"{tile.x}-{tile.y}.tif").write_bytes(encode(cut_tile(reader, tile)).data or b"")

    times = repeated(lambda: cpu_seconds(work), repeats, WARM_UPS)
    with closing(open_slide(Path(slide))) as reader:
        pictures = [cut_tile(reader, tile) for tile in found]
        parts = {
            "mask": cpu_seconds(lambda: tissue_mask(reader)),
            "read and crop": cpu_seconds(lambda: [cut_tile(reader, tile) for tile in found]),
            "encode": cpu_seconds(lambda: [encode(picture) for picture in pictures]),
        }
    sums = [int(np.asarray(picture, dtype=np.int64).sum()) for picture in pictures]
    return {
        "rates": [len(found) / seconds for seconds in times],
        "corners": [(t.x, t.y) for t in found],
        "sums": sums,
        "parts": parts,
    }


def raw(slide: str, corners: Sequence[Sequence[int]], repeats: int) -> dict[str, Any]:
    """Rates of reading alone."""
    import numpy as np
    import openslide

    def work() -> None:
        with openslide.OpenSlide(slide) as opened:
            for x, y in corners:
                opened.read_region((x, y), 0, (PX, PX))

    times = repeated(lambda: cpu_seconds(work), repeats, WARM_UPS)
    with openslide.OpenSlide(slide) as opened:
        sums = [int(np.asarray(opened.read_region((x, y), 0, (PX, PX)).convert("RGB"), dtype=np.int64).sum()) for x, y in corners]
    return {"rates": [len(corners) / seconds for seconds in times], "sums": sums}


def monai(slide: str, corners: Sequence[Sequence[int]], repeats: int) -> dict[str, Any]:
    """Rates of MONAI's reader with Pillow's writer."""
    import numpy as np
    from monai.data.wsi_reader import WSIReader

    def each() -> Any:
        reader = WSIReader(backend="openslide")
        opened = reader.read(slide)
        for x, y in corners:
            pixels, _ = reader.get_data(opened, location=(y, x), size=(PX, PX), level=0)
            yield (x, y), np.moveaxis(np.asarray(pixels, dtype=np.uint8), 0, -1)
        opened.close()

    return _written(each, len(corners), repeats)


def tiatoolbox(slide: str, corners: Sequence[Sequence[int]], repeats: int) -> dict[str, Any]:
    """Rates of tiatoolbox's point extractor with Pillow's writer."""
    import numpy as np
    from tiatoolbox.tools.patchextraction import get_patch_extractor
    from tiatoolbox.wsicore.wsireader import WSIReader

    def each() -> Any:
        opened = WSIReader.open(slide)
        centres = np.asarray(corners) + (PX - 1) // 2
        patches = get_patch_extractor(
            "point", input_img=opened, locations_list=centres, patch_size=PX, resolution=0, units="level"
        )
        yield from zip(corners, patches, strict=True)

    return _written(each, len(corners), repeats)


def _written(each: Any, count: int, repeats: int) -> dict[str, Any]:
    """Rates of writing what `each` yields, as both peers' users do, and a digest of the pixels."""
    import numpy as np
    from PIL import Image

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for (x, y), pixels in each():
                Image.fromarray(np.ascontiguousarray(pixels)).save(Path(folder) / f"{x}-{y}.tif")

    times = repeated(lambda: cpu_seconds(work), repeats, WARM_UPS)
    return {
        "rates": [count / seconds for seconds in times],
        "sums": [int(np.asarray(pixels, dtype=np.int64).sum()) for _, pixels in each()],
    }


def rows(quick: bool, seed: int) -> list[Row]:
    """Ours against each."""
    missing = [name for name in ("openslide", "tifffile", "imagecodecs") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"benchmarks/tiling.py needs {', '.join(missing)}: pip install 'domain-factory[pathology]'")
    from toy_slide import make_slide

    repeats = 1 if quick else REPEATS
    with tempfile.TemporaryDirectory() as folder:
        slide = str(make_slide(Path(folder) / "slide.tif", side=2048 if quick else 8192, seed=seed))
        own = alone("tiling:ours", {"slide": slide, "repeats": repeats})
        same = {"slide": slide, "corners": own["corners"], "repeats": repeats}
        sides = {"openslide raw read": ("ratio >= 0.9", alone("tiling:raw", same))}
        if not quick:
            sides[f"MONAI {versions()['monai']}"] = ("ratio > 1", alone("tiling:monai", same))
            python = os.environ.get("TIATOOLBOX_PYTHON")
            if python:
                sides["tiatoolbox"] = ("ratio > 1", alone("tiling:tiatoolbox", same, python=python))
    found = []
    for name, (reach, other) in sides.items():
        if other["sums"] != own["sums"]:
            raise SystemExit(f"{name} read other pixels than ours: nothing is compared")
        count = len(own["corners"])
        notes = f"{count} tiles of {PX} px, pixels equal; ours by part: " + ", ".join(
            f"{part} {1000 * seconds / count:.1f} ms/tile" for part, seconds in own["parts"].items()
        )
        found.append(compared("slide tiling: mask, tile, write", name, reach, own["rates"], other["rates"], "tiles/CPU-s", notes))
    return found


if __name__ == "__main__":
    main(rows, __doc__)
