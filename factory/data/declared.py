"""Which splits a set of files declares for itself, by file names or by a `split` in its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from factory.data.files import DataFile
from factory.data.report import RowReport
from factory.data.rows import peek, read_rows
from factory.data.splits import declared_split, split_of

LOOKED_AT = 3
"""First rows of a table that are looked at for a split."""


def row_split(row: Mapping[str, Any]) -> str | None:
    """The split that a row declares, as written: `split`, `extra_info.split` (verl), or the last key of `_path` (PathMMU)."""
    extra = row.get("extra_info")
    path = row.get("_path")
    candidates = (row.get("split"), extra.get("split") if isinstance(extra, Mapping) else None)
    written = next((value for value in candidates if isinstance(value, str) and value.strip()), None)
    return written or (path.rpartition("/")[2] if isinstance(path, str) else None)


def file_split(file: DataFile) -> str | None:
    """The split that a file's name declares: `test-00000-of-00003.parquet` -> test."""
    return declared_split(file.path.name.split(".")[0]) if file.kind != "hub" else None


def declares_split(rows: Sequence[Mapping[str, Any]]) -> bool:
    """True when one of the first rows of a table declares its split."""
    return any(row_split(row) for row in rows[:LOOKED_AT])


def declared_splits(files: Iterable[DataFile], in_rows: Mapping[DataFile, bool]) -> frozenset[str]:
    """All splits declared by the names of tables or by their rows. Rows are read only where the first ones declare a split.

    Args:
        in_rows: whether they do (`declares_split`), of the files whose first rows were read before.
    """
    found: set[str] = set()
    for file in files:
        if file.kind == "hub":
            found |= _in_rows(file, 0, 0)
        elif by_name := file_split(file):
            found.add(by_name)
        elif file.kind != "tar" and (in_rows[file] if file in in_rows else declares_split(peek(file, LOOKED_AT))):
            stat = file.path.stat()
            found |= _in_rows(file, stat.st_mtime_ns, stat.st_size)
    return frozenset(found)


@lru_cache(maxsize=256)
def _in_rows(file: DataFile, _mtime_ns: int, _size: int) -> frozenset[str]:
    """One pass over the rows of a file; the cache is void when the file changes."""
    written = {row_split(row) for _, row in read_rows(file, RowReport(max_bad_fraction=1.0))}
    return frozenset(split for text in written if text and (split := declared_split(text)))


def resolve_split(declared: str | None, group: str, known: frozenset[str], shares: Mapping[str, float]) -> str | None:
    """The split of a row.

    Args:
        declared: what the row (or else its file's name) declares, as written.
        group: its patient, slide or image.
        known: all splits that the data declares anywhere.
        shares: see `split_of`.

    Returns:
        A declared validation or test as it is. Declared train, less what the hash of the group takes for a split that the
        data does not declare. By the hash alone when nothing is declared. None for a tiny extract of a test split that is
        there in full (PathMMU's `test_tiny`), whose rows would count twice.
    """
    split = declared_split(declared) if declared else None
    if split is None:
        return split_of(group, shares)
    if declared and "tiny" in declared.lower() and split == "test":
        return None
    if split != "train":
        return split
    by_hash = split_of(group, shares)
    return by_hash if by_hash not in known else "train"
