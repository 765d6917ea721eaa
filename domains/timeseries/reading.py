"""What every reader of series files shares: text lines, numbers with gaps, and the row that the loader turns into records."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from factory.data.files import lines_of, open_checked
from factory.data.rows import RowFault

Row = tuple[int, dict[str, Any] | RowFault]
"""Row number (a line, else a record) and the row, or why there is none."""
MISSING = frozenset({"", "?", "nan", "na", "null", "none", "-nan"})
SERIES = "series_row"
"""The one column of rows made here; it holds a SeriesRow, so that the shape is certain."""
MOST_VALUES = 4_000_000
"""A longer single series is refused: cut it first."""
_SPLIT_WORD = re.compile(r"[_.-](?:TRAIN|TRAINING|TEST|VALIDATION|VALID|VAL|DEV)\d*$", re.IGNORECASE)


@dataclass
class SeriesRow:
    """One series as a file gives it."""

    values: np.ndarray
    """[C, L] float64, NaN where missing."""
    label: str | None = None
    """Class, as written."""
    target: float | None = None
    """Number to be predicted."""
    marks: np.ndarray | None = None
    """[L] bool: which steps are anomalous."""
    classes: tuple[str, ...] = ()
    """All classes that the file knows."""
    channels: tuple[str, ...] = ()
    dataset: str = ""
    key: str | None = None
    """Its own id."""
    meta: dict[str, Any] = field(default_factory=dict)


def row_of(series: SeriesRow) -> dict[str, Any]:
    """The row that carries a series through the loader."""
    return {SERIES: series}


def dataset_of(path: Path) -> str:
    """`GunPoint_TRAIN.ts` -> `GunPoint`: the file's name without its suffixes and split."""
    stem = path.name.split(".")[0]
    return _SPLIT_WORD.sub("", stem) or stem


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end). UTF-8, or Latin-1 where a line is not. Raises RowFault when the file breaks off."""
    with open_checked(path) as handle:
        for number, raw in enumerate(lines_of(handle), 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError:
                line = raw.decode("latin-1")
            yield number, line.rstrip("\r\n")


def number_of(text: str, what: str) -> float:
    """A finite number, or NaN for `?` and its kind. Raises RowFault for anything else."""
    text = text.strip().strip("'\"")
    if text.casefold() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError as err:
        raise RowFault("values", f"{what} is {text[:40]!r}, no number (missing values are written ?).") from err
    if math.isinf(value):
        raise RowFault("values", f"{what} is infinite; write ? where a value is missing.")
    return value


def numbers_of(cells: Sequence[str], what: str) -> np.ndarray:
    """[L] float64 of text cells; the quick way where all are numbers."""
    try:
        values = np.array(cells, dtype=np.float64)
        if not np.isinf(values).any():
            return values
    except ValueError:
        pass
    return np.array([number_of(cell, f"{what}, value {place}") for place, cell in enumerate(cells, 1)], dtype=np.float64)


def stacked_channels(rows: Sequence[np.ndarray]) -> np.ndarray:
    """[C, L]; channels of unequal length are filled up with NaN. Raises RowFault for an empty series, or one without any value."""
    if not rows or max(map(len, rows)) == 0:
        raise RowFault("values", "the series is empty.")
    length = max(map(len, rows))
    if length * len(rows) > MOST_VALUES:
        raise RowFault(
            "values", f"{len(rows)} channels of {length} steps are more than {MOST_VALUES} values. Cut the series first."
        )
    values = np.full((len(rows), length), np.nan)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    if not np.isfinite(values).any():
        raise RowFault("values", "every value is missing.")
    return values


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in a fixed order: numbers by value, else by the alphabet."""
    found = set(labels)
    try:
        return tuple(sorted(found, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(found))


def decoded(data: bytes) -> io.StringIO:
    """A text stream over bytes, for csv."""
    return io.StringIO(data.decode("utf-8-sig", errors="replace"), newline="")
