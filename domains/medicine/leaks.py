"""Images and questions that a set's own train and test files share, told whenever the data is checked.

VQA-RAD as distributed: all 240 test images also occur in train, and 3 pairs of question and image repeat (guides/domains.md 2.6).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest
from factory.data.report import RowFault
from factory.data.rows import RowReport, read_rows
from factory.data.splits import normalised
from factory.packs.common_shapes import convert
from factory.packs.loading import Loader
from factory.packs.sources import LoadSettings, Table

_PART = re.compile(r"(train|test|val)", re.IGNORECASE)
FIRST = 3
"""Shared images named in a note."""


@dataclass
class Part:
    """What one published part of a set holds."""

    images: set[str] = field(default_factory=set)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    """(image, normalised question)."""


@dataclass(frozen=True)
class Leak:
    """How much of one part another one holds."""

    shape: str
    part: str
    other: str
    shared_images: int
    images: int
    shared_pairs: int
    first: tuple[str, ...]

    def __str__(self) -> str:
        named = f" ({', '.join(self.first)} ...)" if self.first else ""
        return (
            f"{self.shape}: {self.shared_images} of {self.images} images of {self.part} also occur in {self.other}{named}, "
            f"{self.shared_pairs} with the same question. Rows are split anew by image, so that no image is on both sides; "
            "figures on the published parts measure memory too."
        )


def find_leaks(loader: Loader, request: DataRequest) -> list[Leak]:
    """Images that published parts of one set share, by the parts that file names say (train, test, val)."""
    settings = loader.read(request.options)
    sources = loader.finder.find(request.paths, settings, online=request.online)
    parts: dict[str, dict[str, Part]] = defaultdict(lambda: defaultdict(Part))
    for table in sources.tables:
        hit = _PART.search(Path(table.file.name).stem)
        if hit is None or table.fault or not table.shape.gives:
            continue
        for image, question in _pairs(table, settings):
            part = parts[table.shape.name][hit.group(1).lower()]
            part.images.add(image)
            part.pairs.add((image, question))
    return [leak for shape, found in sorted(parts.items()) for leak in _compare(shape, found)]


def _compare(shape: str, parts: Mapping[str, Part]) -> Iterator[Leak]:
    for part in ("test", "val"):
        for other in ("train", "val"):
            if part == other or part not in parts or other not in parts:
                continue
            shared = parts[part].images & parts[other].images
            if shared:
                pairs = len(parts[part].pairs & parts[other].pairs)
                yield Leak(shape, part, other, len(shared), len(parts[part].images), pairs, tuple(sorted(shared)[:FIRST]))


def _pairs(table: Table, settings: LoadSettings) -> Iterator[tuple[str, str]]:
    """(image, normalised question) of every row that can be converted; images are not opened."""
    for _, row in read_rows(table.file, RowReport(max_bad_fraction=1.0)):
        try:
            records = convert(row, table.shape, settings)
        except RowFault:
            continue
        for record in records:
            for image in _names(record.images):
                yield image, normalised(record.text)


def _names(cell: Any) -> Iterator[str]:
    if isinstance(cell, list | tuple):
        for one in cell:
            yield from _names(one)
    elif isinstance(cell, Mapping):
        yield from _names(cell.get("bytes") or cell.get("path"))
    elif isinstance(cell, bytes | bytearray):
        yield hashlib.sha256(cell).hexdigest()[:16]
    elif isinstance(cell, str) and cell:
        yield cell


def check_with_leaks(loader: Loader, request: DataRequest) -> RowReport:
    """The loader's own check, with a note and a tally for every leak. Raises what `Loader.check` raises."""
    report = loader.check(request)
    for leak in find_leaks(loader, request):
        report.note(str(leak))
        report.tallies[f"leak {leak.shape}: images of {leak.part} in {leak.other}"] = leak.shared_images
        report.tallies[f"leak {leak.shape}: questions of {leak.part} in {leak.other}"] = leak.shared_pairs
    return report
