"""CSV and Parquet tables of series: long (a row is one value) and wide (a row is one series).

Which column is what is said by `pack.columns` and never guessed beyond names that mean one thing; a headerless CSV numbers its
columns from 0. Tables of questions, captions or chats are left to the factory's own readers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from factory.data.files import lines_of, open_checked
from factory.data.readers_binary import read_parquet
from factory.data.readers_text import read_csv
from factory.data.rows import RowFault
from factory.domains.timeseries.files_ts import stamp_key
from factory.domains.timeseries.files_ucr import plain_label
from factory.domains.timeseries.reading import Row, SeriesRow, dataset_of, decoded, in_order, number_of, row_of, stacked_channels

ROLES = ("id", "time", "channel", "value", "label", "target", "anomaly")
NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "series_id", "unique_id", "item_id", "record"), "time": ("timestamp", "time", "ds", "datetime", "t"),
    "channel": ("channel", "dimension", "dim", "sensor"), "value": ("value", "y"), "label": ("label", "class"),
    "target": (), "anomaly": ("is_anomaly", "anomaly"),
}  # fmt: skip
"""Names that are understood without `pack.columns`."""
OTHERS = frozenset(
    {"question", "conversations", "messages", "prompt", "caption", "text", "image", "images", "reward_model", "options"}
)
"""A column of this name makes a table one of questions or captions."""
LISTS = frozenset({"series", "values", "target", "ts", "data"})
"""Columns whose cells may be whole series."""
_NUMBERED = re.compile(r"[A-Za-z_]*?\d+(?:\.0)?")
MIN_WIDE = 6
"""Numbered columns from which a table is wide without being told."""


@dataclass(frozen=True)
class TableLayout:
    """How the user's tables lie: `pack.layout`, `pack.columns`, `pack.header`."""

    layout: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    has_header: bool = True

    def column(self, role: str, names: Sequence[str]) -> str | None:
        """The column of a role among `names`. Raises RowFault when a declared one is not there."""
        declared = self.columns.get(role)
        if declared is not None:
            if declared not in names:
                raise RowFault(
                    declared, f"column is missing; pack.columns.{role} names it. The table has: {', '.join(names[:20])}."
                )
            return declared
        return next((name for name in names if name.lower() in NAMES[role]), None)

    def kind(self, names: Sequence[str]) -> str:
        """`long`, `wide`, or `other` for a table that is none of series. Raises RowFault when it cannot be told."""
        if self.layout != "auto":
            return self.layout
        if self.columns.get("value") or (
            self.column("value", names) and (self.column("time", names) or self.column("id", names))
        ):
            return "long"
        if {name.lower() for name in names} & OTHERS:
            return "other"
        if sum(bool(_NUMBERED.fullmatch(name)) for name in names) >= MIN_WIDE:
            return "wide"
        raise RowFault(
            "file", f"its columns ({', '.join(names[:12])}) do not say how the series lie. Long: set pack.columns, for example "
            "{time: Date, value: Passengers}. Wide (a row is a series): set pack.layout=wide and pack.columns={label: ...}.",
        )  # fmt: skip


def read_csv_series(path: Path, layout: TableLayout) -> Iterator[Row]:
    """A .csv of series, or of anything else that the factory reads."""
    if path.name.upper().startswith("REFERENCE"):
        return  # the labels of WFDB records beside it; read with them
    names = _csv_names(path, layout)
    if layout.kind(names) == "other":
        yield from read_csv(path)
        return
    yield from _series(_headerless(path) if not layout.has_header else read_csv(path), names, layout, path)


def read_parquet_series(path: Path, layout: TableLayout) -> Iterator[Row]:
    """A .parquet of series; rows with whole series in a cell, and tables of anything else, go on as they are."""
    rows = read_parquet(path)
    first = next(rows, None)
    if first is None:
        return
    _, row = first
    assert isinstance(row, dict)
    whole = chain([first], rows)
    holds_lists = any(isinstance(row.get(name), list) for name in LISTS)
    names = list(row)
    if holds_lists or layout.kind(names) == "other":
        yield from whole
        return
    yield from _series(whole, names, layout, path)


def _csv_names(path: Path, layout: TableLayout) -> list[str]:
    with open_checked(path) as handle:
        line = handle.readline(1 << 20)
    names = next(csv.reader(decoded(line)), [])
    if not layout.has_header:
        return [str(place) for place in range(len(names))]
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return names
    if len(numbers) < MIN_WIDE or numbers != sorted(numbers):
        raise RowFault("file", f"begins with numbers ({', '.join(names[:4])}) instead of names of columns. Set pack.header=false, and "
                       "pack.columns={time: 0, value: 1} or what fits, columns counted from 0.")  # fmt: skip
    return names


def _headerless(path: Path) -> Iterator[Row]:
    with open_checked(path) as handle:
        for number, raw in enumerate(lines_of(handle), 1):
            cells = next(csv.reader(decoded(raw)), [])
            if cells:
                yield number, {str(place): cell for place, cell in enumerate(cells)}


def _series(rows: Iterator[Row], names: list[str], layout: TableLayout, path: Path) -> Iterator[Row]:
    dataset = dataset_of(path)
    if layout.kind(names) == "long":
        yield from _long(rows, names, layout, dataset)
    else:
        yield from _wide(rows, names, layout, dataset)


def _wide(rows: Iterator[Row], names: list[str], layout: TableLayout, dataset: str) -> Iterator[Row]:
    """A row is one series: its numbered columns (all but those with a role, when the layout is declared) in their order."""
    roles = {role: layout.column(role, names) for role in ("id", "label", "target")}
    taken = {name for name in roles.values() if name} | {"split"}
    values = [name for name in names if name not in taken and (layout.layout == "wide" or _NUMBERED.fullmatch(name))]
    kept = list(rows)
    label = roles["label"]
    classes = in_order(
        plain_label(str(row[label])) for _, row in kept if isinstance(row, dict) and label and row.get(label) not in (None, "")
    )
    for number, row in kept:
        if isinstance(row, RowFault):
            yield number, row
            continue
        try:
            cells = np.array([number_of("" if row.get(name) is None else str(row[name]), f"column {name}") for name in values])
            series = SeriesRow(stacked_channels([cells]), classes=classes, dataset=dataset)
            _fill_roles(series, row, roles)
            yield number, {**row_of(series), **({"split": row["split"]} if row.get("split") else {})}
        except RowFault as fault:
            yield number, fault


def _fill_roles(series: SeriesRow, row: Mapping[str, Any], roles: Mapping[str, str | None]) -> None:
    if roles["label"]:
        if row.get(roles["label"]) in (None, ""):
            raise RowFault(roles["label"], "is blank; it is the label.")
        series.label = plain_label(str(row[roles["label"]]))
    if roles["target"]:
        series.target = number_of(str(row.get(roles["target"]) or ""), "the target")
    if roles["id"] and row.get(roles["id"]) not in (None, ""):
        series.key = str(row[roles["id"]])


@dataclass
class _Long:
    """What was read of one long series."""

    first_row: int
    stamps: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    marks: dict[str, bool] = field(default_factory=dict)
    label: str | None = None
    fault: RowFault | None = None


def _long(rows: Iterator[Row], names: list[str], layout: TableLayout, dataset: str) -> Iterator[Row]:
    """A row is one value. Without an id column the whole table is one series; rows of one id need not lie together.

    The table is held in memory. One bad value spoils its series, which is reported under the row of that value.
    """
    roles = {role: layout.column(role, names) for role in ROLES}
    found: dict[str, _Long] = {}
    for number, row in rows:
        if isinstance(row, RowFault):
            yield number, row
            continue
        key = str(row.get(roles["id"])) if roles["id"] else ""
        series = found.setdefault(key, _Long(number))
        if series.fault is None:
            try:
                _add(series, row, roles, number)
            except RowFault as fault:
                series.fault = RowFault(fault.field, f"row {number}: {fault.reason}")
    classes = in_order(series.label for series in found.values() if series.label is not None)
    for key, series in found.items():
        try:
            if series.fault:
                raise series.fault
            yield series.first_row, row_of(_joined(key, series, classes, dataset))
        except RowFault as fault:
            yield series.first_row, fault


def _add(series: _Long, row: Mapping[str, Any], roles: Mapping[str, str | None], number: int) -> None:
    channel = str(row.get(roles["channel"])) if roles["channel"] else ""
    raw = row.get(roles["value"] or "")
    value = number_of("" if raw is None else str(raw), f"column {roles['value']}")
    stamp = str(row.get(roles["time"])) if roles["time"] else str(number)
    series.stamps.setdefault(channel, []).append(stamp)
    series.values.setdefault(channel, []).append(value)
    if roles["anomaly"]:
        series.marks[stamp] = series.marks.get(stamp, False) or str(row.get(roles["anomaly"])).strip().lower() in (
            "1",
            "1.0",
            "true",
        )
    if roles["label"]:
        label = plain_label(str(row.get(roles["label"])))
        if series.label is not None and label != series.label:
            raise RowFault(str(roles["label"]), f"is {label!r}, but earlier rows of this series say {series.label!r}.")
        series.label = label


def _joined(key: str, series: _Long, classes: tuple[str, ...], dataset: str) -> SeriesRow:
    """Channels on the union of their stamps, in the order of time; a channel without a value at a stamp has NaN there."""
    for channel, stamps in series.stamps.items():
        if len(set(stamps)) != len(stamps):
            raise RowFault(
                "time", f"channel {channel or 'value'} has two values for one time stamp. Name the id column in pack.columns."
            )
    order = sorted({stamp for stamps in series.stamps.values() for stamp in stamps}, key=stamp_key)
    place = {stamp: index for index, stamp in enumerate(order)}
    rows = []
    for channel, stamps in series.stamps.items():
        values = np.full(len(order), np.nan)
        values[[place[stamp] for stamp in stamps]] = series.values[channel]
        rows.append(values)
    marks = np.array([series.marks.get(stamp, False) for stamp in order]) if series.marks else None
    channels = tuple(series.stamps) if len(series.stamps) > 1 else ()
    return SeriesRow(stacked_channels(rows), series.label, marks=marks, classes=classes, channels=channels, dataset=dataset,
                     key=key or None, meta={"first_stamp": order[0]})  # fmt: skip
