"""`.arff` (label last, also with relational attributes) and UCR's `.tsv` and `.txt` (label first), streamed."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from factory.data.readers_text import read_csv
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

_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.IGNORECASE)
_INTERVAL_IN_NAME = re.compile(r"_(\d+)_(\d+)_(\d+)$")
"""UCR anomaly archive: `..._<end of training>_<begin>_<end of the anomaly>.txt`."""


def read_arff(path: Path) -> Iterator[Row]:
    """Rows of an .arff file; the last attribute is the class (nominal) or the target (numeric)."""
    kinds: list[str] = []
    is_data, dataset = False, dataset_of(path)
    depth = 0
    for number, line in text_lines(path):
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        if not is_data:
            lowered = text.lower()
            is_data = lowered == "@data"
            if lowered.startswith("@end"):
                depth -= 1
            hit = _ATTRIBUTE.match(text)
            if hit and depth == 0:
                kinds.append(hit.group(2).strip())
            depth += bool(hit and hit.group(2).strip().lower() == "relational")
            continue
        try:
            yield number, row_of(_arff_row(text, kinds, dataset))
        except RowFault as fault:
            yield number, fault
    if not is_data:
        raise RowFault("file", "has no @data line, so it holds no series.")


def _arff_row(text: str, kinds: list[str], dataset: str) -> SeriesRow:
    try:
        cells = [cell.strip() for cell in next(csv.reader([text.replace("\\n", "\n")], quotechar="'" if text[0] == "'" else '"'))]
    except csv.Error as err:
        raise RowFault("values", f"the row's cells cannot be told apart: {err}.") from err
    if len(cells) != len(kinds):
        raise RowFault("values", f"the row has {len(cells)} cells for {len(kinds)} attributes.")
    if len(kinds) < 2:
        raise RowFault("values", f"the header has {len(kinds)} attribute; wanted are the series and, last, its class or target.")
    last, kind = cells.pop(), kinds[-1]
    series = SeriesRow(np.zeros((1, 0)), dataset=dataset)
    if kind.startswith("{"):
        series.classes = tuple(name.strip().strip("'\"") for name in kind.strip("{} ").split(","))
        series.label = last.strip("'\"")
        if series.label not in series.classes:
            raise RowFault("label", f"is {last!r}, the attribute allows {', '.join(series.classes)}.")
    else:
        series.target = number_of(last, "the target")
    if kinds[0].lower() == "relational":
        series.values = stacked_channels(
            [numbers_of(line.split(","), f"channel {i}") for i, line in enumerate(cells[0].split("\n"), 1)]
        )
    else:
        series.values = stacked_channels([numbers_of(cells, "the row")])
    return series


def read_tsv(path: Path) -> Iterator[Row]:
    """UCR's .tsv: label first, then the values, no header. A .tsv with a header is any other table and read as one."""
    first = next((line for _, line in text_lines(path) if line.strip()), "")
    if not _is_numeric(first.split("\t")):
        yield from read_csv(path, delimiter="\t")
        return
    yield from _label_first(path, "\t")


def read_txt(path: Path) -> Iterator[Row]:
    """Older UCR text: label first, parted by blanks, tabs or commas; or one value per line, which is one long series."""
    first = next((line for _, line in text_lines(path) if line.strip()), "")
    cells = re.split(r"[,\s]+", first.strip())
    if not _is_numeric(cells):
        return  # notes and licences also end in .txt; they are no series
    if len(cells) > 1:
        yield from _label_first(path, r"[,\s]+")
        return
    values = stacked_channels(
        [np.array([number_of(line, f"line {number}") for number, line in text_lines(path) if line.strip()])]
    )
    series = SeriesRow(values, dataset=dataset_of(path))
    hit = _INTERVAL_IN_NAME.search(path.name.split(".")[0])
    if hit:
        _, begin, end = map(int, hit.groups())
        series.marks = np.zeros(values.shape[1], dtype=bool)
        series.marks[begin : end + 1] = True
    yield 1, row_of(series)


def _is_numeric(cells: list[str]) -> bool:
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def _label_first(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows `label, value, value ...`. Labels are read in a first pass, so that each row knows all classes."""

    def cells_of(line: str) -> list[str]:
        return line.split("\t") if delimiter == "\t" else re.split(delimiter, line.strip())

    classes = in_order(plain_label(cells_of(line)[0]) for _, line in text_lines(path) if line.strip())
    dataset = dataset_of(path)
    for number, line in text_lines(path):
        if not line.strip():
            continue
        label, *cells = cells_of(line)
        try:
            # The archive pads short series with NaN at the end.
            values = stacked_channels([numbers_of(cells, "the row")])
            last = int(np.flatnonzero(np.isfinite(values[0]))[-1]) + 1
            yield number, row_of(SeriesRow(values[:, :last], plain_label(label), classes=classes, dataset=dataset))
        except RowFault as fault:
            yield number, fault


def plain_label(text: str) -> str:
    """`1.0000000e+00` -> `1`: old files write whole-numbered classes as floats."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        return text
    return str(int(value)) if value.is_integer() else text
