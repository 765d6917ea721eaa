"""Whole slides that reach this pack: checked for labels and handed on as a small overview. Tiling belongs to the pathology pack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open slide. Raises RowFault when it, its header or its pixels cannot be read."""
    import openslide

    try:
        with openslide.OpenSlide(path) as slide:
            yield slide
    except (openslide.OpenSlideError, OSError, KeyError) as err:  # KeyError: a property or level that an error has made unknown
        raise RowFault("file", f"OpenSlide cannot read it: {err}. It is truncated, damaged or in an unknown format.") from err
