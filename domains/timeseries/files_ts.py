"""`.ts` files of the UCR and UEA archives and of TimerBed, streamed, with headers that lie.

aeon reads a `.ts` whole, stops at its first bad row and puts labels in lower case. This reader streams, names the line of every bad
row, keeps labels as written, and says where the header lies. Tests compare the values with aeon's on every file.

- Lines that begin with `#` or `%`, and blank ones, are comments. Header keys are case-insensitive; data follow `@data`.
- `c1:c2:...:label`: channels parted by `:`, values by `,`; unequal lengths; `?` is missing.
- `(stamp,value),(stamp,value)`: time-stamped values, put in the order of their stamps. A stamp may hold `:`.
- Classes come from `@classLabel true a b c`. Where the rows hold others, the header lies and the rows decide.
- `@targetLabel true`: the last field is a number to be predicted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from factory.data.rows import RowFault
from factory.domains.timeseries.reading import (
    Row,
    SeriesRow,
    dataset_of,
    in_order,
    number_of,
    numbers_of,
    row_of,
    stacked_channels,
    text_lines,
)

MAX_DIGITS = 9
"""Of a length or a number of channels in the header; a longer one is no number."""
_TUPLE = re.compile(r"\(\s*([^(),]+?)\s*,\s*([^()]*?)\s*\)")


@dataclass
class Header:
    """What the lines before `@data` say."""

    classes: tuple[str, ...] = ()
    has_label: bool | None = None
    """None when the header does not say."""
    has_target: bool = False
    has_stamps: bool = False
    length: int | None = None
    dimensions: int | None = None
    is_univariate: bool | None = None
    lies: list[str] = field(default_factory=list)
    """What the rows contradict."""


def read_ts(path: Path) -> Iterator[Row]:
    """One row per series; row numbers are line numbers. The file is read twice: once for its classes."""
    header = scan(path)
    dataset = dataset_of(path)
    is_data = False
    for number, line in text_lines(path):
        if _is_comment(line):
            continue
        if not is_data:
            is_data = line.strip().lower() == "@data"
            continue
        try:
            yield number, row_of(_series(line, header, dataset))
        except RowFault as fault:
            yield number, fault
    if not is_data:
        raise RowFault("file", "has no @data line, so it holds no series. Is it a .ts file of the UCR archive?")


def scan(path: Path) -> Header:
    """The header, put right by the rows: one pass over the file that looks at labels, numbers of channels and lengths."""
    header, is_data, said = Header(), False, False
    labels: set[str] = set()
    lengths: set[int] = set()
    channels: set[int] = set()
    for _, line in text_lines(path):
        if _is_comment(line):
            continue
        if not is_data:
            is_data = line.strip().lower() == "@data"
            if line.startswith("@") and not is_data:
                _header_line(header, line)
            continue
        if not said and header.has_label is None and not header.has_target:
            header.has_label = _ends_with_label(line)
        said = True
        fields = _fields(line)
        if header.has_label:
            labels.add(fields[-1].strip())
        parts = fields[:-1] if header.has_label or header.has_target else fields
        channels.add(len(parts))
        if parts and not header.has_stamps:
            lengths.add(parts[0].count(",") + 1)
    _compare(header, labels, channels, lengths)
    return header


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip()[0] in "#%"


def _header_line(header: Header, line: str) -> None:
    key, *words = line[1:].split() or [""]
    key, first = key.lower(), (words[0].lower() if words else "")
    if key == "classlabel":
        header.has_label, header.classes = first == "true", tuple(words[1:])
    elif key == "targetlabel":
        header.has_target = first == "true"
    elif key == "timestamps":
        header.has_stamps = first == "true"
    elif key == "univariate":
        header.is_univariate = first == "true"
    elif key in ("serieslength", "dimensions", "dimension") and first.isdecimal() and len(first) <= MAX_DIGITS:
        setattr(header, "length" if key == "serieslength" else "dimensions", int(first))


def _compare(header: Header, labels: set[str], channels: set[int], lengths: set[int]) -> None:
    """Where header and rows differ, note it and believe the rows."""
    strange = labels - set(header.classes)
    if header.has_label and strange:
        if header.classes:
            header.lies.append(f"@classLabel says {' '.join(header.classes)}, the rows hold {' '.join(in_order(labels))}")
        header.classes = in_order(labels)
    if header.is_univariate is not None and channels and header.is_univariate != (channels == {1}):
        header.lies.append(f"@univariate is {str(header.is_univariate).lower()}, the rows have {_listed(channels)} channels")
    if header.dimensions is not None and channels not in ({header.dimensions}, set()):
        header.lies.append(f"@dimensions is {header.dimensions}, the rows have {_listed(channels)} channels")
    if header.length is not None and lengths not in ({header.length}, set()):
        header.lies.append(f"@seriesLength is {header.length}, the rows have {_listed(lengths)} steps")


def _listed(numbers: set[int]) -> str:
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def _fields(line: str) -> list[str]:
    """Split at `:` outside of brackets."""
    if "(" not in line:
        return line.split(":")
    return re.split(r":(?![^()]*\))", line)


def _ends_with_label(line: str) -> bool:
    """Without a header: the last of several fields that holds no comma and no bracket is a label."""
    fields = _fields(line)
    return len(fields) > 1 and "," not in fields[-1] and "(" not in fields[-1]


def _series(line: str, header: Header, dataset: str) -> SeriesRow:
    fields = _fields(line)
    series = SeriesRow(np.zeros((1, 0)), classes=header.classes, dataset=dataset)
    if header.has_label or header.has_target:
        if len(fields) < 2:
            raise RowFault("label", "the row has no ':' before its label; it is cut off, or the file has no labels.")
        last = fields.pop().strip()
        if header.has_target:
            series.target = number_of(last, "the target")
            if not np.isfinite(series.target):
                raise RowFault("target", "is missing.")
        elif not last or last == "?":
            raise RowFault("label", "is missing.")
        else:
            series.label = last
    if header.has_stamps or any("(" in part for part in fields):
        channels = [_stamped(part, place) for place, part in enumerate(fields, 1)]
        series.meta["first_stamp"] = min(stamps[0] for stamps, _ in channels)
        series.values = stacked_channels([values for _, values in channels])
    else:
        series.values = stacked_channels(
            [numbers_of(part.split(","), f"channel {place}") for place, part in enumerate(fields, 1)]
        )
    return series


def _stamped(text: str, place: int) -> tuple[list[str], np.ndarray]:
    """([L] stamps, [L] values) in the order of the stamps. Raises RowFault for broken tuples or a stamp that occurs twice."""
    pairs = _TUPLE.findall(text)
    if not pairs or _TUPLE.sub("", text).strip(" ,"):
        raise RowFault("values", f"channel {place} is no list of (stamp,value).")
    stamps = [stamp for stamp, _ in pairs]
    if len(set(stamps)) != len(stamps):
        raise RowFault("values", f"channel {place} has two values for one time stamp.")
    order = sorted(range(len(pairs)), key=lambda index: stamp_key(stamps[index]))
    return [stamps[i] for i in order], np.array([number_of(pairs[i][1], f"channel {place}") for i in order])


def stamp_key(stamp: str) -> tuple[int, float, str]:
    """Sorts numbers by value, and dates as ISO writes them by their letters."""
    try:
        return 0, float(stamp), ""
    except ValueError:
        return 1, 0.0, stamp
