"""Rows of binary tables, streamed: parquet files and WebDataset tar shards. Same protocol as `readers_text`."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.data.files import open_checked
from factory.data.readers_text import Row
from factory.data.report import RowFault

PARQUET_BATCH_ROWS = 64
"""Rows decoded at a time: images travel inside the rows, so a batch is kept small."""
MAX_MEMBER_BYTES = 256 * 2**20
IMAGE_MEMBERS = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp")
TEXT_MEMBERS = ("txt", "text", "caption", "cls")


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows of a parquet file; row numbers count from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    open_checked(path).close()
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        reason = f"cannot be read as parquet after row {number}: {str(err).splitlines()[0][:200]}"
        raise RowFault("file", f"{reason} It is truncated or damaged; copy it again.") from err


def read_tar(path: Path) -> Iterator[Row]:
    """Samples of a WebDataset shard: neighbouring members with one key (the name up to its first dot).

    A row holds `__key__` and one entry per member: image members as bytes, text as str, `.json` as its object.
    Row numbers count samples from 1. Nothing is unpacked to disk.
    """
    number, key, row = 0, None, {}
    fault: RowFault | None = None
    seen: set[str] = set()
    with open_checked(path) as handle:
        try:
            with tarfile.open(fileobj=handle, mode="r|") as archive:
                for member in archive:
                    if not member.isfile():
                        continue
                    member_key, extension = _split_name(member.name)
                    if member_key != key:
                        if key is not None:
                            yield number, fault or row
                        number, key, fault = number + 1, member_key, None
                        row = {"__key__": key}
                        if key in seen:
                            reason = f"key {key!r} appears again in this shard; members of one sample lie together."
                            fault = RowFault("__key__", reason)
                        seen.add(key)
                    try:
                        row[extension] = _member(archive, member, extension)
                    except RowFault as err:
                        fault = fault or err
        except (tarfile.TarError, EOFError, OSError, zlib.error) as err:
            after = f"after {number - 1} whole samples" if number else "at its start"
            reason = f"cannot be read as a tar shard {after}: {err}. It is truncated or damaged; copy it again."
            raise RowFault("file", reason) from err
    if key is not None:
        yield number, fault or row


def _split_name(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> Any:
    if member.size > MAX_MEMBER_BYTES:
        raise RowFault(extension, f"member {member.name!r} has {member.size} bytes, above the limit of {MAX_MEMBER_BYTES}.")
    handle = archive.extractfile(member)
    assert handle is not None, "isfile() members can be read"
    content = handle.read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"member {member.name!r} breaks off after {len(content)} of {member.size} bytes")
    if extension not in (*TEXT_MEMBERS, "json"):
        return content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as err:
        at = f"byte {content[err.start]:#04x} at byte offset {err.start}"
        raise RowFault(extension, f"member {member.name!r}: {at} is not UTF-8.") from err
    if extension != "json":
        return text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise RowFault(extension, f"member {member.name!r} is not valid JSON: {err}.") from err
