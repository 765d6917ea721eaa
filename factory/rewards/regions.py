"""Boxes: read one from text and measure its overlap with another. Boxes are (x1, y1, x2, y2), x to the right and y down."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

Box = tuple[float, float, float, float]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BOX = re.compile(rf"[\[(]?\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]?", re.ASCII)
_MAX_CHARS = 400


def check_box(values: Any) -> Box:
    """Four finite numbers with x1 < x2 and y1 < y2. Raises ValueError saying what is wrong."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 4:
        raise ValueError(f"a box is four numbers x1, y1, x2, y2; got {values!r}")
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        raise ValueError(f"a box needs finite numbers, got {list(values)}")
    x1, y1, x2, y2 = (float(value) for value in values)
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"a box needs x1 < x2 and y1 < y2, got {x1:g}, {y1:g}, {x2:g}, {y2:g}")
    return x1, y1, x2, y2


def read_box(text: str) -> Box:
    """The one box that `text` is: `[x1, y1, x2, y2]`, `(…)` or bare. Raises ValueError for none, several or an invalid one."""
    text = text.strip()
    hit = _BOX.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if hit is None:
        raise ValueError(f"want one box [x1, y1, x2, y2], got {text[:60]!r}")
    return check_box([float(value) for value in hit.groups()])


def iou(a: Box, b: Box) -> float:
    """Area of the intersection over area of the union, in [0, 1]. Boxes that only touch share nothing."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    # Scaled by the largest side, so that huge or tiny coordinates neither overflow nor vanish.
    scale = max(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
    inter = (width / scale) * (height / scale)
    areas = [((box[2] - box[0]) / scale) * ((box[3] - box[1]) / scale) for box in (a, b)]
    union = sum(areas) - inter
    return min(1.0, max(0.0, inter / union)) if union > 0 and math.isfinite(union) else 0.0
