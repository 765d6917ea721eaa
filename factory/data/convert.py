"""Files of rows from one trainer's shape to another's. All or nothing: a row that cannot be converted stops the writing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.data.images import STARTS
from factory.data.own_shapes import SHAPES
from factory.data.report import BadRow, RowFault, RowRef, RowReport
from factory.data.rows import read_rows
from factory.data.talk_shapes import TalkShape, read_talk, write_talk
from factory.data.talks import Talk
from factory.errors import ConfigError, DataError, near_miss

KINDS = (".jsonl", ".json", ".parquet")


class _All(RowReport):
    """Keeps every unreadable row."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.all: list[BadRow] = []

    def reject(self, ref: RowRef, field: str, reason: str) -> None:
        """Count and keep."""
        self.all.append(BadRow(ref.file, ref.row, field, reason))
        super().reject(ref, field, reason)


@dataclass(frozen=True)
class Converted:
    """What a conversion did."""

    num_rows: int
    num_images: int
    """Images that were bytes in the row and became files."""
    bad: tuple[BadRow, ...]
    """Rows that cannot be converted; then nothing was written."""


def shape_named(name: str) -> TalkShape:
    """Raises ConfigError with the list of shapes."""
    if name not in SHAPES:
        known = "\n".join(f"  {shape.name:<15} {shape.title}" for shape in SHAPES.values())
        raise ConfigError(f"there is no shape '{name}'.{near_miss(name, list(SHAPES))} Shapes:\n{known}")
    return SHAPES[name]


def convert(source: Path, out: Path, start: str, goal: str, *, drop: Sequence[str] = ()) -> Converted:
    """Read every row of `source` as `start` and write `out` as `goal`.

    Paths of images are written as they stand; images inside rows become files in `<out>.images/`.

    Raises:
        ConfigError: unknown shape, or a suffix of `out` that is no table.
        DataError: the file cannot be read, or its columns cannot be written as parquet.
    """
    reading, writing = shape_named(start), shape_named(goal)
    if out.suffix not in KINDS:
        raise ConfigError(f"{out}: is to be written as one of {', '.join(KINDS)}. Give the file that ending.")
    talks: list[tuple[RowRef, Talk]] = []
    bad: list[BadRow] = []
    report = _All(max_bad_fraction=1.0)
    for ref, row in read_rows(source, report):
        try:
            talks.append((ref, read_talk(reading, row)))
        except RowFault as err:
            bad.append(BadRow(ref.file, ref.row, err.field, err.reason))
    bad += report.all
    folder, rows = out.with_name(f"{out.name}.images"), []
    has_parts = any(talk.images for _, talk in talks)
    images: dict[str, bytes] = {}
    for ref, talk in talks:
        named = _as_files(talk, folder.name, f"{ref.row:06d}", images)
        try:
            rows.append(write_talk(writing, named, drop=frozenset(drop), has_parts=has_parts))
        except RowFault as err:
            bad.append(BadRow(ref.file, ref.row, err.field, err.reason))
    if bad:
        return Converted(len(talks), 0, tuple(sorted(bad, key=lambda one: one.row)))
    for name, data in images.items():
        (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (out.parent / name).write_bytes(data)
    write_table(rows, out)
    return Converted(len(rows), len(images), ())


def _as_files(talk: Talk, folder: str, number: str, images: dict[str, bytes]) -> Talk:
    """The talk with paths only; bytes are noted in `images` under the path they get."""
    names: list[str | bytes] = []
    for index, one in enumerate(talk.images):
        if isinstance(one, bytes):
            name = f"{folder}/{number}-{index}{_suffix(one)}"
            images[name] = one
            one = name
        names.append(one)
    return replace(talk, images=tuple(names))


def _suffix(data: bytes) -> str:
    return next((suffix for start, suffix, _ in STARTS if data.startswith(start)), ".img")


def write_table(rows: Iterable[Mapping[str, Any]], out: Path) -> None:
    """Write rows as JSON lines, a JSON array or parquet, by the suffix; complete or not at all. Raises DataError."""
    listed, partial = list(rows), out.with_name(f"{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        if out.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist([dict(row) for row in listed]), partial)
        elif out.suffix == ".json":
            partial.write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        else:
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in listed), encoding="utf-8")
    except (TypeError, ValueError) as err:  # pyarrow's ArrowInvalid and ArrowTypeError are of these
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{out}: the rows cannot be written: {err}. A column of parquet has one type, and JSON holds no bytes: write .jsonl, "
            "or make the column's values alike."
        ) from err
    os.replace(partial, out)
