"""A data set described in Croissant 1.0 (mlcommons.org/croissant): files with hashes, and the columns of its tables.

The description names what is on the disk; it copies no row. Paths are relative to the description's folder, so that both can be
moved together. `mlcroissant validate --jsonld FILE` reads it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.data.files import DataFile, list_files
from factory.data.rows import peek
from factory.errors import ConfigError, DataError

CONFORMS = "http://mlcommons.org/croissant/1.0"
ENCODINGS = {
    ".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json", ".jsonl": "application/jsonlines",
    ".ndjson": "application/jsonlines", ".parquet": "application/x-parquet", ".tar": "application/x-tar", ".png": "image/png",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".tif": "image/tiff", ".tiff": "image/tiff", ".txt": "text/plain",
}  # fmt: skip
COLUMNS_OF = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Tables whose columns a Croissant reader can extract by name."""
PEEKED = 20
"""Rows whose columns and types count."""
LANGUAGE = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
"""The context that the specification gives (section `Appendix 1: JSON-LD context`)."""


def describe(
    paths: Sequence[str], *, name: str, description: str, licence: str, out: Path, version: str = "1.0.0"
) -> dict[str, Any]:
    """The description of everything below the paths.

    Args:
        licence: as the owner states it: an SPDX identifier, an address, or words.
        out: where the description will lie; paths in it are relative to this folder.

    Raises:
        ConfigError: an empty name. DataError: a path does not exist, or holds no file.
    """
    if not name.strip():
        raise ConfigError("the data set has no name. Give one with --name.")
    found = list_files(paths)
    if not found:
        raise DataError(f"{', '.join(paths)}: holds no file. Name the files or the folder to describe.")
    ids = _ids(found)
    return {
        "@context": LANGUAGE, "@type": "sc:Dataset", "conformsTo": CONFORMS, "name": _identifier(name), "alternateName": name,
        "description": description or f"{len(found)} files, described by factory data describe.",
        "license": licence or "not stated", "version": version,
        "datePublished": datetime.now(UTC).date().isoformat(), "isLiveDataset": False,
        "distribution": [_file(file, ids[file.path], out) for file in found],
        "recordSet": [made for file in found if (made := _records(file, ids[file.path])) is not None],
    }  # fmt: skip


def to_text(described: Mapping[str, Any]) -> str:
    """The description as JSON-LD text."""
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _ids(files: Iterable[DataFile]) -> dict[Path, str]:
    """A name for each file, no two alike."""
    made: dict[Path, str] = {}
    for file in files:
        base, number = _identifier(file.name), 1
        name = base
        while name in made.values():
            number += 1
            name = f"{base}-{number}"
        made[file.path] = name
    return made


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "data"


def _file(file: DataFile, identifier: str, out: Path) -> dict[str, Any]:
    try:
        where = file.path.absolute().relative_to(out.absolute().parent).as_posix()
    except ValueError:
        where = file.path.name  # it lies elsewhere; an absolute path would name this machine
    return {
        "@type": "cr:FileObject", "@id": identifier, "name": identifier, "contentUrl": where,
        "contentSize": f"{file.path.stat().st_size} B", "sha256": _sha256(file.path),
        "encodingFormat": ENCODINGS.get(file.path.suffix.lower(), "application/octet-stream"),
    }  # fmt: skip


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}. Check its permissions, or leave it out.") from err


def _records(file: DataFile, identifier: str) -> dict[str, Any] | None:
    if file.kind is None or file.path.suffix.lower() not in COLUMNS_OF:
        return None
    rows = list(peek(file, PEEKED))
    columns = {column: row[column] for row in reversed(rows) for column in row if row[column] not in (None, "")}
    if not columns:
        return None
    record = f"{identifier}-rows"
    fields = [
        {
            "@type": "cr:Field", "@id": f"{record}/{_identifier(column)}", "name": f"{record}/{_identifier(column)}",
            "description": f"Column {column!r}.", "dataType": _type(value),
            **({"repeated": True} if isinstance(value, list) else {}),
            "source": {"fileObject": {"@id": identifier}, "extract": {"column": column}},
        }
        for column, value in sorted(columns.items())
    ]  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": record, "name": record, "description": f"Rows of {file.path.name}.", "field": fields}


def _type(value: Any) -> str:
    if isinstance(value, list):
        return _type(value[0]) if value else "sc:Text"
    if isinstance(value, bool):
        return "sc:Boolean"
    if isinstance(value, int):
        return "sc:Integer"
    return "sc:Float" if isinstance(value, float) else "sc:Text"
