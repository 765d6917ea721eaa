"""The data of the report's failure browser: every held-out answer of every stage (or run), joined by sample, as compact JSON.

Texts and images are stored once each. The page draws rows when they are looked at, so 10,000 samples cost a parse, not a layout.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.contracts import Status
from factory.report.read import Measured
from factory.stages.eval.summary import WITHHELD

MAX_SAMPLES = 20_000
MAX_TEXT = 4_000
"""Characters kept of one text."""
MAX_IMAGES = 400
MAX_IMAGE_BYTES = 6_000_000
"""Of all images together, encoded."""
MAX_ONE_IMAGE = 200_000
"""Bytes of one image; a larger one is drawn smaller."""
SIDE = 512
"""Pixels of the longer side of an image drawn smaller."""


@dataclass
class Store:
    """Each distinct text or image once, by number."""

    items: list[str] = field(default_factory=list)
    _known: dict[str, int] = field(default_factory=dict)

    def add(self, item: str, key: str | None = None) -> int:
        """The number of an item, new or known."""
        found = self._known.setdefault(key or item, len(self.items))
        if found == len(self.items):
            self.items.append(item)
        return found

    def __contains__(self, key: str) -> bool:
        return key in self._known


@dataclass(frozen=True)
class Answers:
    """One column of the browser: the answers of one stage, or of one run's kept stage."""

    name: str
    measured: Measured


def browser_data(columns: Sequence[Answers]) -> dict[str, Any] | None:
    """What the page's script reads; None when nothing was measured.

    `rows` are `[id, task, prompt, wanted, image, answers]` and an answer `[text, status, score, tokens, reason]` or null, where texts
    are numbers into `texts`, and `task`, `status` and `image` (-1: none) into their lists. Samples whose prompt is withheld are
    counted and left out, with every answer to them. An id under which runs were asked different things is a row for each.
    """
    texts, tasks, statuses, images = Store(), Store(), Store(), _Images()
    found: dict[tuple[str, int, int], list[Any]] = {}
    withheld: set[str] = set()
    for number, column in enumerate(columns):
        for row in column.measured.rows():
            if str(row["prompt"]).startswith(WITHHELD):
                withheld.add(row["id"])
                continue
            asked = (row["id"], texts.add(_cut(row["prompt"])), texts.add(_cut(row["reference"])))
            if asked not in found:
                found[asked] = [row["id"], tasks.add(row["task"]), *asked[1:], -1, [None] * len(columns)]
            entry = found[asked]
            if entry[4] < 0 and row.get("image"):
                entry[4] = images.add(column.measured.folder / "images" / row["image"])
            entry[5][number] = [
                texts.add(_cut(row["completion"])), statuses.add(row["status"]), round(float(row["score"]), 4), row.get("tokens"),
                texts.add(_cut(row["reason"])),
            ]  # fmt: skip
    if not found:
        return None
    rows = list(found.values())
    if len(rows) > MAX_SAMPLES:
        rows = sorted(rows, key=_interest)[:MAX_SAMPLES]
    return {
        "columns": [column.name for column in columns], "tasks": tasks.items, "statuses": statuses.items,
        "masked": [status.value for status in Status if status.is_masked], "texts": texts.items, "images": images.store.items,
        "rows": rows, "left_out": len(found) - len(rows), "withheld": len(withheld), "images_left_out": images.left_out,
    }  # fmt: skip


def _interest(entry: list[Any]) -> int:
    """Changed answers first, then wrong ones, then the rest: what is left out of too many."""
    rights = {answer[2] >= 1.0 for answer in entry[5] if answer is not None}
    return 0 if len(rights) == 2 else 1 if rights == {False} else 2


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} … ({len(text) - MAX_TEXT} more characters, see samples.jsonl)"


@dataclass
class _Images:
    """Images as `data:` addresses, each once, within `MAX_IMAGES` and `MAX_IMAGE_BYTES`."""

    store: Store = field(default_factory=Store)
    num_bytes: int = 0
    left_out: int = 0

    def add(self, path: Path) -> int:
        """The number of an image file; -1 when it is gone or there is no room for it."""
        if not path.is_file():
            return -1
        body = path.read_bytes()
        key = hashlib.sha256(body).hexdigest()
        if key in self.store:
            return self.store.add("", key)
        if len(body) > MAX_ONE_IMAGE:
            body = smaller(body)
        if len(self.store.items) >= MAX_IMAGES or self.num_bytes + len(body) > MAX_IMAGE_BYTES:
            self.left_out += 1
            return -1
        self.num_bytes += len(body)
        return self.store.add("data:image/png;base64," + base64.b64encode(body).decode("ascii"), key)


def smaller(body: bytes) -> bytes:
    """A PNG whose longer side is at most `SIDE` pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(body)) as image:
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def script_json(payload: Any) -> str:
    """JSON that may stand inside a `<script>` element: `<`, `>` and `&` are escaped, so no text can end the element."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
