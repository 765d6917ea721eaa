"""WFDB records (PhysioNet) through wfdb, and Monash `.tsf` through aeon. Both libraries are in the extra `timeseries`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from factory.data.files import open_checked
from factory.data.rows import RowFault
from factory.domains.timeseries.reading import Row, SeriesRow, dataset_of, decoded, in_order, row_of, stacked_channels
from factory.errors import PluginError

INSTALL = "pip install 'domain-factory[timeseries]'"
CINC2017 = {"N": "normal", "A": "af", "O": "other", "~": "noisy"}
"""The letters of the 2017 challenge's REFERENCE.csv."""


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise PluginError(f"reading this file needs {name.split('.')[0]}. Install it with {INSTALL}.") from err


def read_wfdb(path: Path) -> Iterator[Row]:
    """One record: all its signals in physical units. Its class is the line of a REFERENCE.csv beside it, or a comment `label: x`."""
    wfdb = _library("wfdb")
    open_checked(path).close()
    try:
        record = wfdb.rdrecord(str(path.with_suffix("")))
    except FileNotFoundError as err:
        raise RowFault(
            "file", f"its signal file is missing: {Path(str(err.filename)).name}. Copy the .dat or .mat beside it."
        ) from err
    except Exception as err:  # wfdb raises whatever a damaged field of the header leads to
        reason = (
            f"is no readable WFDB record: {type(err).__name__}: {str(err)[:160]}. Copy the header and its signal files again."
        )
        raise RowFault("file", reason) from err
    if record.p_signal is None:
        raise RowFault("file", "is a WFDB header without signals.")
    references = _references(path.parent)
    label = references.get(path.stem) or _commented(record.comments)
    series = SeriesRow(
        stacked_channels(list(np.asarray(record.p_signal, dtype=np.float64).T)), label,
        classes=in_order(references.values()) if references else (), channels=tuple(record.sig_name), dataset=path.parent.name,
        key=path.stem, meta={"rate": float(record.fs), "units": list(record.units)},
    )  # fmt: skip
    if series.values.shape[0] == 1:
        series.channels = ()
    yield 1, row_of(series)


def _references(folder: Path) -> dict[str, str]:
    """Record -> class, from the first REFERENCE*.csv of the folder; the letters of the 2017 challenge become words."""
    for path in sorted(folder.glob("REFERENCE*.csv")):
        with open_checked(path) as handle:
            rows = [row for row in csv.reader(decoded(handle.read())) if len(row) >= 2]
        return {row[0].strip(): CINC2017.get(row[1].strip(), row[1].strip()) for row in rows}
    return {}


def _commented(comments: list[str]) -> str | None:
    for comment in comments or ():
        key, _, value = comment.partition(":")
        if key.strip().lower() in ("label", "class", "diagnosis", "reason for admission") and value.strip():
            return value.strip()
    return None


def read_tsf(path: Path) -> Iterator[Row]:
    """Series of the Monash archive: no labels, so they serve the corpus and `pack.task=forecast`."""
    datasets = _library("aeon.datasets")
    open_checked(path).close()
    try:
        frame, about = datasets.load_from_tsf_file(str(path))
    except Exception as err:  # aeon raises bare Exceptions
        raise RowFault(
            "file", f"is no readable .tsf: {str(err)[:160]} Write its header and rows as the Monash archive does."
        ) from err
    for number, row in enumerate(frame.to_dict("records"), 1):
        try:
            values = stacked_channels([np.asarray(row["series_value"], dtype=np.float64)])
        except RowFault as fault:
            yield number, fault
            continue
        meta = {"first_stamp": str(row.get("start_timestamp", "")), "frequency": str((about or {}).get("frequency", ""))}
        yield number, row_of(SeriesRow(values, dataset=dataset_of(path), key=str(row.get("series_name", number)), meta=meta))
