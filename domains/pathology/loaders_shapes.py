"""Rows that only pathology has: figures cut from pages, and the tables beside slides. The rest is `factory.packs.common_shapes`.

| shape | set it comes from |
| --- | --- |
| figure-extraction | Patho-R1's page extraction: `bbox, caption, figure_path, inline_ref` |
| slide-captions, slide-labels | a CSV `slide_id,caption` or `slide_id,label` beside whole slides |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.packs import common_shapes as common
from factory.packs.common_shapes import CAPTION_COLUMNS, RowShape
from factory.packs.records import DOCUMENTS, SAMPLES, Record


def _figure_extraction(row: Mapping[str, Any], settings: Any) -> Record:
    box = cell(row, "bbox")
    if not (isinstance(box, (list, tuple)) and len(box) == 4 and all(isinstance(v, (int, float)) and v >= 0 for v in box)):
        raise RowFault("bbox", f"must be four numbers [x1, y1, x2, y2] of 0 or more, got {box!r:.60}.")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise RowFault("bbox", f"{list(box)} is empty: x1 < x2 and y1 < y2 are needed.")
    caption, inline = text_cell(row, "caption"), optional_cell(row, "inline_ref")
    text = f"{caption}\n{inline.strip()}" if isinstance(inline, str) else caption
    return Record(DOCUMENTS, text=text, images=cell(row, "figure_path"), image_field="figure_path", meta={"bbox": list(box)})


def _beside_slides(row: Mapping[str, Any], settings: Any) -> Record:
    raise RowFault("slide_id", "a table beside slides is read with its slides, not by itself.")


CSV = frozenset({"csv", "tsv"})
FIGURE_EXTRACTION = RowShape(
    "figure-extraction",
    "figures cut from pages",
    (("figure_path",), ("caption",), ("bbox",)),
    None,
    DOCUMENTS,
    _figure_extraction,
)
SLIDE_CAPTIONS = RowShape(
    "slide-captions", "captions of slides beside them", (("slide_id",), CAPTION_COLUMNS), CSV, DOCUMENTS, _beside_slides
)
SLIDE_LABELS = RowShape("slide-labels", "labels of slides beside them", (("slide_id",), ("label",)), CSV, SAMPLES, _beside_slides)
SHAPES = (
    common.WEBDATASET, FIGURE_EXTRACTION, common.FACTORY, common.CHAT, common.VERL, common.OMNIMEDVQA, common.MULTIPLE_CHOICE, common.VQA,
    SLIDE_CAPTIONS, SLIDE_LABELS, common.FIGURE_CAPTION, common.PLAIN_TEXT,
)  # fmt: skip
"""From special to general: the first that fits is taken."""
