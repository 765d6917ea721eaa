"""Rows of any table on disk, one at a time, each with the place it came from; bad ones go to a RowReport."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.data.files import DataFile, kind_of, list_files, open_checked
from factory.data.readers_binary import read_parquet, read_tar
from factory.data.readers_hub import read_hub
from factory.data.readers_text import Row, read_csv, read_json, read_jsonl
from factory.data.report import BadRow, RowFault, RowRef, RowReport
from factory.errors import DataError

__all__ = ["KINDS", "BadRow", "RowFault", "RowRef", "RowReport", "list_files", "peek", "read_rows"]

KINDS = {
    "jsonl": "JSON lines (.jsonl, .ndjson)",
    "json": "JSON array, or object of arrays (.json)",
    "csv": "CSV with a header (.csv)",
    "tsv": "TSV with a header (.tsv)",
    "parquet": "parquet (.parquet)",
    "tar": "WebDataset shard (.tar)",
    "hub": "data set on the Hugging Face hub (hub:owner/name, with --online)",
}
"""Kinds of tables and how to name them to a user. Text kinds and tar may be gzipped."""


def _reader(file: DataFile) -> Iterator[Row]:
    path, kind = file.path, str(file.kind)
    if file.format is not None:
        return file.format.read(path)
    if kind == "csv":
        return read_csv(path)
    if kind == "tsv":
        return read_csv(path, delimiter="\t")
    readers = {"jsonl": read_jsonl, "json": _json_rows, "parquet": read_parquet, "tar": read_tar, "hub": read_hub}
    return readers[kind](path)


def _json_rows(path: Path) -> Iterator[Row]:
    """A `.json` file as one document, or as JSON lines when that is what it holds (a common misnomer)."""
    return read_jsonl(path) if _is_json_lines(path) else read_json(path)


def _is_json_lines(path: Path) -> bool:
    with open_checked(path) as handle:
        try:
            lines = [handle.readline(1 << 20), handle.readline(1 << 20)]
        except (EOFError, OSError):
            return False  # read_json meets the same fault and reports it
    try:
        return all(isinstance(json.loads(line.decode("utf-8-sig")), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def read_rows(file: DataFile | Path | str, report: RowReport) -> Iterator[tuple[RowRef, dict[str, Any]]]:
    """Stream the readable rows of one table; unreadable ones are rejected in `report`, never raised past its limits.

    The caller counts a row as good (`report.accept()`) once it could be converted too.

    Raises:
        DataError: the file is no table that we know, or the report's limits are exceeded.
    """
    if not isinstance(file, DataFile):
        file = DataFile(Path(file), Path(file).name, kind_of(Path(file)))
    if file.kind is None:
        raise DataError(f"{file.path}: not a table by its name. Known: {'; '.join(KINDS.values())}.")
    report.open_file(file.name)
    last = 0
    try:
        for number, row in _reader(file):
            last = number
            ref = RowRef(file.name, number)
            if isinstance(row, RowFault):
                report.reject(ref, row.field, row.reason)
            else:
                yield ref, row
    except RowFault as fault:
        report.files.add(file.name)
        report.bad_files.add(file.name)
        report.reject(RowRef(file.name, last + 1 if last else 0), fault.field, fault.reason)


def peek(file: DataFile, n: int = 1) -> list[dict[str, Any]]:
    """The first `n` readable rows, without judging the others."""
    rows: list[dict[str, Any]] = []
    for _, row in read_rows(file, RowReport(max_bad_fraction=1.0)):
        rows.append(row)
        if len(rows) >= n:
            break
    return rows
