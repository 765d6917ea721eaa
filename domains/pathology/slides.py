"""Whole-slide images: opened, measured in microns per pixel, masked for tissue. OpenSlide or MONAI reads them.

Units: `mpp` is microns per pixel; coordinates are (x, y) pixels of level 0; sizes are (width, height).
Label and macro images, where a patient's sticker may be seen, are never read: only their names are looked at, to warn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from factory.data.files import open_checked
from factory.data.rows import RowFault
from factory.errors import ConfigError, near_miss

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff", ".dcm")
"""What OpenSlide reads: Aperio, Hamamatsu, MIRAX, Leica, Ventana, Sakura, Philips and generic tiled TIFF, DICOM."""
PLAUSIBLE_MPP = (0.05, 10.0)
"""Outside it the number is no microscope's: 72 dpi, the default of many TIFF writers, would be 353 microns per pixel."""
MAX_ANISOTROPY = 1.05
MASK_PIXELS = 1024
"""Longest side of the picture on which tissue is sought."""
SATURATION_BOUNDS = (0.04, 0.10)
"""Otsu's threshold is held within these: glass alone has noise that Otsu would split, tissue alone would be halved."""
MIN_VALUE = 0.08
"""Pixels darker than this are pen, shadow or scanner padding; their saturation means nothing."""
IDENTIFYING = re.compile(r"patient|birth|accession|referring|physician|institution|operator|\buser\b|barcode", re.IGNORECASE)


class SlideReader(Protocol):
    """The little that tiling needs from a slide library."""

    size: tuple[int, int]
    """(width, height) of level 0, pixels."""
    downsamples: Sequence[float]
    """Per level, 1.0 first."""
    recorded_mpp: tuple[float, float] | None
    """(x, y) microns per level-0 pixel as the file says, or None."""
    associated: Sequence[str]
    """Names of label, macro and thumbnail images. Their pixels are never read."""
    properties: Mapping[str, str]

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image:
        """RGB picture of `size` level pixels whose top-left is the level-0 pixel (x, y). White where nothing was scanned."""

    def close(self) -> None: ...


class OpenSlideReader:
    """SlideReader on openslide-python."""

    def __init__(self, path: Path) -> None:
        import openslide

        try:
            self._slide = openslide.OpenSlide(path)
            self.size = self._slide.dimensions
            self.downsamples = self._slide.level_downsamples
            self.properties = dict(self._slide.properties)
        except (openslide.OpenSlideError, OSError, KeyError) as err:  # KeyError: a property that an error has made unknown
            raise RowFault("file", f"OpenSlide cannot open it: {err}. It is truncated or in an unknown format.") from err
        self._error = openslide.OpenSlideError
        self.recorded_mpp = _mpp_of(self.properties.get("openslide.mpp-x"), self.properties.get("openslide.mpp-y"))
        self.associated = tuple(self._slide.associated_images)

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image:
        """See SlideReader. Raises RowFault when the pixels cannot be decoded."""
        try:
            region = self._slide.read_region((x, y), level, size)
        except (self._error, OSError) as err:
            where = f"region at x={x}, y={y}, level {level}"
            raise RowFault("file", f"{where} cannot be read: {err}. The file is truncated or damaged.") from err
        return _on_white(region)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


class MonaiReader:
    """SlideReader on `monai.data.WSIReader`, for sites that have its cucim or tifffile backends. Imports torch."""

    def __init__(self, path: Path, backend: str) -> None:
        from monai.data.wsi_reader import WSIReader

        try:
            self._reader = WSIReader(backend=backend)
            self._slide = self._reader.read(str(path))
            levels = range(self._reader.get_level_count(self._slide))
            height, width = self._reader.get_size(self._slide, 0)
            self.downsamples = tuple(float(self._reader.get_downsample_ratio(self._slide, level)) for level in levels)
        except Exception as err:  # the backends share no base class, and only some are installed
            raise RowFault("file", f"MONAI ({backend}) cannot open it: {type(err).__name__}: {err}.") from err
        self.size = (int(width), int(height))
        self.recorded_mpp = None
        with suppress(ValueError, KeyError, TypeError, ZeroDivisionError):  # each backend's way to say that mpp is not recorded
            mpp_y, mpp_x = self._reader.get_mpp(self._slide, 0)
            self.recorded_mpp = _mpp_of(mpp_x, mpp_y)
        self.properties: Mapping[str, str] = {k: str(v) for k, v in dict(getattr(self._slide, "properties", {})).items()}
        self.associated = tuple(getattr(self._slide, "associated_images", ()))

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image:
        """See SlideReader. Raises RowFault when the pixels cannot be decoded."""
        import numpy as np
        from PIL import Image as Pictures

        try:
            chw, _ = self._reader.get_data(self._slide, location=(y, x), size=(size[1], size[0]), level=level)
        except Exception as err:  # see __init__
            raise RowFault("file", f"region at x={x}, y={y}, level {level} cannot be read: {type(err).__name__}: {err}.") from err
        return Pictures.fromarray(np.moveaxis(np.asarray(chw, dtype=np.uint8), 0, -1))

    def close(self) -> None:
        """Release the file."""
        close = getattr(self._slide, "close", None)
        if close is not None:
            close()


BACKENDS = ("openslide", "monai-openslide", "monai-cucim", "monai-tifffile")


def open_slide(path: Path, backend: str = "openslide") -> SlideReader:
    """Open a slide after checking that the file is no empty or fake one.

    Raises:
        RowFault: empty, a pointer or web page, truncated, of no known format, or a .mrxs without its folder.
        ConfigError: no such backend.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"pack.slide_backend is {backend!r}.{near_miss(backend, BACKENDS)} Known: {', '.join(BACKENDS)}.")
    open_checked(path).close()
    if path.suffix.lower() == ".mrxs" and not path.with_suffix("").is_dir():
        raise RowFault("file", f"its folder '{path.stem}/' is missing: a MIRAX slide is a .mrxs file and a folder beside it.")
    return OpenSlideReader(path) if backend == "openslide" else MonaiReader(path, backend.removeprefix("monai-"))


def slide_mpp(reader: SlideReader, override: float | None = None) -> tuple[float, float]:
    """(x, y) microns per level-0 pixel: the override if given, else what the file records.

    Raises:
        RowFault: nothing recorded, or a number that no microscope has.
    """
    mpp = (override, override) if override else reader.recorded_mpp
    if mpp is None:
        raise RowFault("mpp", "the slide does not record microns per pixel. Set pack.mpp_override (0.25 for 40x, 0.5 for 20x).")
    low, high = PLAUSIBLE_MPP
    if not all(low <= value <= high for value in mpp):
        shown = " x ".join(f"{value:.4g}" for value in mpp)
        raise RowFault("mpp", f"{shown} microns per pixel is no microscope's (a 72 dpi default?). Set pack.mpp_override.")
    if max(mpp) / min(mpp) > MAX_ANISOTROPY:
        raise RowFault("mpp", f"pixels are not square ({mpp[0]:.4g} x {mpp[1]:.4g} microns). Set pack.mpp_override if wrong.")
    return mpp


def privacy_notes(name: str, reader: SlideReader) -> list[str]:
    """What in the slide may identify a patient: names of associated images and filled header fields, never their content."""
    notes = []
    stickers = [image for image in reader.associated if image != "thumbnail"]
    if stickers:
        shown = ", ".join(stickers)
        notes.append(f"{name}: holds associated images ({shown}) that may show a patient's label; they are not read.")
    fields = sorted(key for key, value in reader.properties.items() if IDENTIFYING.search(key) and str(value).strip())
    if fields:
        shown = ", ".join(fields[:8])
        notes.append(f"{name}: header fields may identify a patient ({shown}); they are not passed on. De-identify it.")
    return notes


@dataclass(frozen=True)
class TissueMask:
    """Where tissue is. `mask[y, x]` covers `scale` x `scale` level-0 pixels."""

    mask: np.ndarray[Any, Any]
    """[h, w] bool."""
    scale: tuple[float, float]
    """(x, y) level-0 pixels per mask pixel."""

    @property
    def share(self) -> float:
        """Share of the slide that is tissue."""
        return float(self.mask.mean())

    def share_in(self, x: float, y: float, width: float, height: float) -> float:
        """Share of tissue in a level-0 rectangle."""
        left, top = int(x / self.scale[0]), int(y / self.scale[1])
        right = max(left + 1, round((x + width) / self.scale[0]))
        bottom = max(top + 1, round((y + height) / self.scale[1]))
        window = self.mask[top:bottom, left:right]
        return float(window.mean()) if window.size else 0.0


def tissue_mask(reader: SlideReader) -> TissueMask:
    """Tissue is coloured, glass is not: threshold the saturation of a small picture by Otsu, within `SATURATION_BOUNDS`."""
    import numpy as np
    from PIL import Image as Pictures
    from PIL import ImageFilter

    small = overview(reader)
    red, green, blue = (np.asarray(channel, dtype=np.float32) for channel in small.split())
    value = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    saturation = np.where(value > 255 * MIN_VALUE, (value - low) / np.maximum(value, 1e-3), 0.0)
    threshold = float(np.clip(otsu(saturation), *SATURATION_BOUNDS))
    raw = Pictures.fromarray(((saturation > threshold) * 255).astype(np.uint8))
    # Specks of dust are no tissue. Of two values the median of 5 x 5 is what more than half of them are: a mean tells it faster.
    clean = np.asarray(raw.filter(ImageFilter.BoxBlur(2))) > 127
    return TissueMask(clean, (reader.size[0] / small.width, reader.size[1] / small.height))


def overview(reader: SlideReader) -> Image:
    """The whole slide as one RGB picture of half to all of `MASK_PIXELS` on its longest side, read strip by strip."""
    from PIL import Image as Pictures

    width, height = reader.size
    shrink = max(1.0, max(width, height) / MASK_PIXELS)
    # Half the pixels of a coarse level serve as well, and reading a finer one takes longer than many tiles.
    level = max(i for i, factor in enumerate(reader.downsamples) if factor <= max(1.0, 2 * shrink) * 1.001)
    factor = reader.downsamples[level]
    shrink = max(shrink, factor)
    out = Pictures.new("RGB", (max(1, round(width / shrink)), max(1, round(height / shrink))), "white")
    # A slide without small levels is read in strips, so that memory stays bounded.
    rows = max(1, min(out.height, int(2**24 / max(1.0, width / factor) / (shrink / factor))))
    for top in range(0, out.height, rows):
        bottom = min(out.height, top + rows)
        span = (max(1, int(width / factor)), max(1, round((bottom - top) * shrink / factor)))
        strip = reader.read(0, round(top * shrink), level, span)
        out.paste(strip.resize((out.width, bottom - top), Pictures.Resampling.BOX), (0, top))
    return out


def otsu(values: np.ndarray[Any, Any]) -> float:
    """Threshold in [0, 1] that maximises the variance between the two classes (Otsu 1979), from a 256-bin histogram."""
    import numpy as np

    counts, edges = np.histogram(values, bins=256, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.argmax(np.nan_to_num(between)))])


def _mpp_of(x: Any, y: Any) -> tuple[float, float] | None:
    try:
        mpp = (float(x), float(y))
    except (TypeError, ValueError):
        return None
    return mpp if mpp[0] > 0 and mpp[1] > 0 else None


def _on_white(region: Image) -> Image:
    """RGBA with unscanned (transparent) parts laid over white."""
    from PIL import Image as Pictures
    from PIL import ImageChops

    alpha = region.getchannel("A")
    if ImageChops.invert(alpha).getbbox() is None:  # opaque; a fifth of the time of its extrema
        return region.convert("RGB")
    page = Pictures.new("RGB", region.size, "white")
    page.paste(region, mask=alpha)
    return page
