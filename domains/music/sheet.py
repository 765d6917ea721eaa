"""A score as a sheet image: ABC to MusicXML by partitura, engraved by verovio, SVG to PNG by resvg.

ABC is read by our own reader first, so that a picture shows what the questions are about; verovio's ABC reader is not used.
"""

from __future__ import annotations

import io
import random
from functools import lru_cache
from typing import Any

from factory.domains.music.exchange import missing_extra, to_musicxml

WIDTH = 1400
"""Page width in verovio's units; a line holds four to eight bars."""


@lru_cache(maxsize=1)
def _toolkit() -> Any:
    try:
        import verovio
    except ImportError as err:
        raise missing_extra("verovio", "engraving") from err
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {"inputFrom": "musicxml", "pageWidth": WIDTH, "adjustPageHeight": True, "header": "none", "footer": "none", "scale": 50,
         "breaks": "auto", "svgViewBox": True, "pageMarginTop": 20, "pageMarginBottom": 20, "xmlIdSeed": 1}
    )  # fmt: skip
    return toolkit


@lru_cache(maxsize=256)
def sheet_svg(abc: str) -> str:
    """The engraved score as SVG. Raises DataError when domain-factory[music] is not installed, AbcError for unreadable ABC."""
    toolkit = _toolkit()
    toolkit.loadData(to_musicxml(abc))
    return str(toolkit.renderToSVG(1))


def sheet_png(abc: str, rng: random.Random | None = None) -> bytes:
    """PNG bytes of the engraved score, cropped to its ink, on white or (with `rng`) on paper of a drawn tone and margin."""
    try:
        import resvg_py
    except ImportError as err:
        raise missing_extra("resvg_py", "engraving") from err
    from PIL import Image, ImageOps

    raw = bytes(resvg_py.svg_to_bytes(svg_string=sheet_svg(abc), background="#ffffff"))
    with Image.open(io.BytesIO(raw)) as image:
        page = image.convert("L")
    box = ImageOps.invert(page).getbbox() or (0, 0, *page.size)
    page = page.crop(box)
    tone, margins = (255, 255, 255), (12, 12, 12, 12)
    if rng is not None:
        tone = tuple(rng.randint(236, 255) for _ in range(3))
        margins = tuple(rng.randint(8, 24) for _ in range(4))
    sheet = Image.new("RGB", (page.width + margins[0] + margins[2], page.height + margins[1] + margins[3]), tone)
    inked = Image.new("RGB", page.size, (0, 0, 0))
    sheet.paste(inked, (margins[0], margins[1]), ImageOps.invert(page))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
