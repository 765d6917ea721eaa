"""Files of music that are no tables: ABC tunebooks, MIDI and MusicXML. Each tune is one row with its ABC in `abc_tune`."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.data.files import FileFormat, lines_of, open_checked, read_at_most
from factory.data.rows import RowFault
from factory.domains.music.abc_reader import MAX_CHARS
from factory.errors import DataError

MAX_FILE = 20_000_000
"""Bytes of one MIDI or MusicXML file."""
_START = re.compile(r"^X:\s*\d*")
Rows = Iterator[tuple[int, dict[str, Any] | RowFault]]


def read_abc_book(path: Path) -> Rows:
    """Tunes of an ABC file, one row each. A tune begins at `X:` and ends at the next one or at an empty line; text between is passed over."""
    number, lines, size = 0, [], 0
    with open_checked(path) as handle:
        for raw in lines_of(handle):
            line = _decoded(raw)
            if _START.match(line):
                if lines:
                    number += 1
                    yield number, _tune(lines)
                lines, size = [line], len(line)
            elif lines and not line.strip():
                number += 1
                yield number, _tune(lines)
                lines = []
            elif lines:
                lines.append(line)
                size += len(line) + 1
                if size > MAX_CHARS:
                    number += 1
                    yield number, RowFault("abc_tune", f"has more than {MAX_CHARS} characters.")
                    lines = []
    if lines:
        yield number + 1, _tune(lines)


def _decoded(raw: bytes) -> str:
    """UTF-8, or Latin-1 as old tunebooks are."""
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        return raw.decode("latin-1").rstrip("\r\n")


def _tune(lines: list[str]) -> dict[str, Any]:
    fields = {line[0]: line[2:].strip() for line in reversed(lines) if re.match(r"[A-Z]:", line)}
    body = [line for line in lines if not _START.match(line)]
    return {"abc_tune": "\n".join(body), "id": fields.get("X") or None, "title": fields.get("T", "")}


def read_midi(path: Path) -> Rows:
    """One row: the first melodic track as ABC."""
    from factory.domains.music.exchange import from_midi

    yield 1, _converted(path, lambda: from_midi(_whole(path)))


def read_musicxml(path: Path) -> Rows:
    """One row: the first voice of the first part as ABC."""
    from factory.domains.music.exchange import from_musicxml

    _refuse_unsafe(path)
    yield 1, _converted(path, lambda: from_musicxml(path))


def _refuse_unsafe(path: Path) -> None:
    """Raises RowFault for a file too large, unpacked too large, or with entities, by which XML can pull in other files."""
    data = _whole(path)
    parts = [data]
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(item.file_size for item in archive.infolist()) > MAX_FILE:
                    raise RowFault("file", f"unpacks to more than {MAX_FILE} bytes.")
                if any(
                    item.compress_size > len(data) for item in archive.infolist()
                ):  # zipfile would take memory for what it claims
                    raise RowFault("file", "claims more bytes than it has. It is damaged; export it again.")
                parts = [archive.read(item) for item in archive.infolist()]
        except RowFault:
            raise
        except Exception as err:  # zipfile's and its decompressors' own, and UnicodeDecodeError of names
            raise RowFault("file", f"cannot be unpacked: {err}. It is damaged; export it again.") from err
    if any(b"<!ENTITY" in part for part in parts):
        raise RowFault("file", "declares XML entities; MusicXML needs none, and they can read other files. Export it again.")


def _whole(path: Path) -> bytes:
    with open_checked(path) as handle:
        return read_at_most(handle, MAX_FILE)


def _converted(path: Path, convert: Any) -> dict[str, Any] | RowFault:
    try:
        return {"abc_tune": convert(), "title": path.stem}
    except DataError as err:
        if "pip install" in str(err):
            raise
        return RowFault("file", str(err))


FORMATS = (
    FileFormat("abc", (".abc",), "ABC tunebook (.abc)", read_abc_book),
    FileFormat("midi", (".mid", ".midi"), "MIDI (.mid, .midi)", read_midi),
    FileFormat("musicxml", (".musicxml", ".mxl"), "MusicXML (.musicxml, .mxl)", read_musicxml),
)
