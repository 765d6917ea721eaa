"""Whole slides that reach this pack: checked for labels and handed on as a small overview. Tiling belongs to the pathology pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from factory.contracts import Media
from factory.data.rows import RowFault
from factory.domains.medicine.phi import refuse_slide, slide_identifiers
from factory.domains.medicine.pictures import to_png

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide")


def checked(path: Path, phi: str) -> dict[str, str]:
    """What to record when identifiers are allowed. Raises RowFault when the slide has some, or cannot be opened.

    The pixels of label and macro images are never read.
    """
    with _opened(path) as slide:
        return refuse_slide(slide_identifiers(dict(slide.properties), tuple(slide.associated_images)), phi)


def overview(path: Path, *, longest: int) -> Media:
    """The slide's scanned area as one small picture."""
    with _opened(path) as slide:
        image = slide.get_thumbnail((longest, longest)).convert("RGB")
    return Media(data=to_png(np.asarray(image), longest))


def _opened(path: Path) -> Any:
    import openslide

    try:
        return openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as err:
        raise RowFault("file", f"OpenSlide cannot open it: {err}. It is truncated or in an unknown format.") from err
