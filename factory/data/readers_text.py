"""Rows of text tables, streamed: JSON lines, one JSON document, CSV and TSV.

Each reader yields `(row number, mapping)` for a readable row and `(row number, RowFault)` for one that is not,
so that reading goes on after a bad row. A fault after which nothing more can be read is raised.
"""

from __future__ import annotations

import codecs
import csv
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from factory.data.files import MAX_LINE_BYTES, open_checked
from factory.data.report import RowFault

Row = tuple[int, dict[str, Any] | RowFault]

MAX_CELL_CHARS = 4 * 2**20
MAX_OBJECT_BYTES = 2**30
"""Largest JSON document whose top level is an object; it has to be held in memory whole."""
CHUNK_CHARS = 1 << 16
BOM = b"\xef\xbb\xbf"


class _Utf8Lines:
    """Decoded lines of a binary file, without their line ends. `faults[n]` says why line n is not UTF-8."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.faults: dict[int, RowFault] = {}
        self.number = 0
        self.has_newline = True

    def __iter__(self) -> Iterator[str]:
        offset = 0
        while True:
            try:
                line = self._handle.readline(MAX_LINE_BYTES + 1)
            except RowFault as fault:
                raise RowFault("file", fault.reason.replace("ends early", f"ends early after line {self.number}", 1)) from fault
            except OSError as err:
                raise RowFault("file", f"ends early after line {self.number}: {err}. It is truncated; copy it again.") from err
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                raise RowFault("file", f"line {self.number + 1} is longer than {MAX_LINE_BYTES} bytes; is this a text file?")
            self.number += 1
            self.has_newline = line.endswith(b"\n")
            skipped = len(BOM) if self.number == 1 and line.startswith(BOM) else 0
            try:
                text = line[skipped:].decode("utf-8")
            except UnicodeDecodeError as err:
                where = offset + skipped + err.start
                reason = f"byte {line[skipped + err.start]:#04x} at byte offset {where} is not UTF-8. Convert the file to UTF-8."
                self.faults[self.number] = RowFault("encoding", reason)
                text = line[skipped:].decode("utf-8", errors="replace")
            offset += len(line)
            yield text


def read_jsonl(path: Path) -> Iterator[Row]:
    """One JSON object per line; blank lines are skipped. Row numbers are line numbers."""
    with open_checked(path) as handle:
        lines = _Utf8Lines(handle)
        for line in lines:
            if not line.strip():
                continue
            fault = lines.faults.pop(lines.number, None)
            yield lines.number, fault or _json_object(line, is_cut=not lines.has_newline)


def _json_object(line: str, *, is_cut: bool) -> dict[str, Any] | RowFault:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as err:  # ValueError: JSONDecodeError, and numbers of more digits than Python reads
        at_end = (isinstance(err, json.JSONDecodeError) and err.pos >= len(line.rstrip()) - 1) or "Unterminated" in str(err)
        hint = " The line stops in the middle of a value: the file is truncated." if is_cut and at_end else ""
        return RowFault("json", f"not valid JSON: {err}.{hint}")
    if not isinstance(row, dict):
        return _no_object(row)
    return row


def _no_object(row: Any) -> RowFault:
    return RowFault("json", f"a row is a JSON object, got {type(row).__name__}.")


def read_json(path: Path) -> Iterator[Row]:
    """One JSON document: an array of objects (streamed), or an object that holds arrays of objects (held in memory).

    For the second form (PathMMU: subset, then split) each row gets `_path`, the keys that led to it, such as `Atlas/test`.
    Row numbers count objects from 1 in file order.
    """
    with open_checked(path) as handle:
        first = _first_byte(handle)
        if first == b"[":
            yield from _array_rows(handle)
        elif first == b"{":
            yield from _nested_rows(handle)
        else:
            raise RowFault("file", f"a JSON file begins with '[' or '{{', this one with {first!r}.")


def _first_byte(handle: IO[bytes]) -> bytes:
    try:
        head = handle.read(4096)
        handle.seek(0)
    except (EOFError, OSError, zlib.error) as err:
        raise RowFault("file", f"cannot be read: {err}. It is truncated; copy it again.") from err
    return head.removeprefix(BOM).lstrip()[:1]


def _array_rows(handle: IO[bytes]) -> Iterator[Row]:
    """Decode one array element at a time from a growing window of text."""
    chunks = _decoded_chunks(handle)
    decoder = json.JSONDecoder()
    window = next(chunks).lstrip()[1:]
    number = 0
    while True:
        window = window.lstrip()
        if window.startswith("]"):
            return
        if window.startswith(",") and number:
            window = window[1:].lstrip()
        try:
            value, end = decoder.raw_decode(window)
            is_complete = end < len(window)  # a number at the very end of the window may go on
        except (ValueError, RecursionError) as err:
            is_complete, problem = False, err
        else:
            problem = None
        if not is_complete:
            more = None if _is_final(problem, len(window)) else next(chunks, None)
            if more is None:
                at = f" ({problem})" if problem else ""
                reason = f"the array is truncated or not valid JSON at element {number + 1}{at}. Copy the file again."
                raise RowFault("file", reason)
            # Doubling the window keeps re-parsing of one large element linear on the whole.
            window += more + "".join(islice(chunks, len(window) // CHUNK_CHARS))
            if len(window) > MAX_LINE_BYTES:
                raise RowFault("file", f"element {number + 1} is not valid JSON within {MAX_LINE_BYTES} characters ({problem}).")
            continue
        number += 1
        window = window[end:]
        yield number, value if isinstance(value, dict) else _no_object(value)


def _is_final(problem: Exception | None, window_chars: int) -> bool:
    """True when more text cannot mend the problem: it lies well before the end of what was read."""
    if isinstance(problem, json.JSONDecodeError):
        return problem.pos < window_chars - 16 and not problem.msg.startswith("Unterminated")
    return problem is not None


def _decoded_chunks(handle: IO[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset = 0
    while True:
        try:
            raw = handle.read(CHUNK_CHARS)
            pending = len(decoder.getstate()[0])
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as err:
            where = offset - pending + err.start
            reason = f"byte {err.object[err.start]:#04x} at byte offset {where} is not UTF-8. Convert the file to UTF-8."
            raise RowFault("encoding", reason) from err
        except (EOFError, OSError, zlib.error) as err:
            raise RowFault("file", f"ends early: {err}. It is truncated; copy it again.") from err
        if not raw:
            return
        offset += len(raw)
        if text:
            yield text


def _nested_rows(handle: IO[bytes]) -> Iterator[Row]:
    parts, size = [], 0
    for part in _decoded_chunks(handle):
        size += len(part)
        if size > MAX_OBJECT_BYTES:
            raise RowFault("file", f"is one JSON object of more than {MAX_OBJECT_BYTES} characters. Turn it into JSON lines.")
        parts.append(part)
    try:
        document = json.loads("".join(parts))
    except (ValueError, RecursionError) as err:
        raise RowFault("file", f"not valid JSON: {err}. It may be truncated, or be JSON lines under the name .json.") from err
    rows = list(_objects_below(document, ()))
    if not rows:
        rows = [((), document)]
    for number, (keys, row) in enumerate(rows, 1):
        if not isinstance(row, dict):
            yield number, _no_object(row)
        else:
            yield number, {**row, "_path": "/".join(keys)} if keys else row


def _objects_below(node: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Elements of every list of objects, up to three keys deep."""
    for key, value in node.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield from (((*keys, key), item) for item in value)
        elif isinstance(value, dict) and len(keys) < 2:
            yield from _objects_below(value, (*keys, key))


def read_csv(path: Path, *, delimiter: str | None = None) -> Iterator[Row]:
    """Rows of a CSV or TSV file with a header line. The row number is the line on which the record begins.

    Args:
        delimiter: by default the one of comma, tab and semicolon that the header holds most often.
    """
    with open_checked(path) as handle:
        lines = _Utf8Lines(handle)
        stream = iter(lines)
        header_line = next(stream, "")
        if 1 in lines.faults:
            raise lines.faults[1]
        delimiter = delimiter or max(",\t;", key=header_line.count)
        try:
            header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter), [])]
        except csv.Error as err:
            raise RowFault("header", f"{err}. Save the file with one kind of line end.") from err
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated or not any(header):
            raise RowFault("header", f"column {repeated[0]!r} appears twice." if repeated else "the header line is blank.")
        csv.field_size_limit(MAX_CELL_CHARS)
        records = csv.reader(stream, delimiter=delimiter, strict=True)
        while True:
            first = lines.number + 1
            try:
                cells = next(records)
            except StopIteration:
                return
            except csv.Error as err:
                hint = " A quoted cell is never closed, or the file is truncated." if "unexpected end" in str(err) else ""
                yield first, RowFault("csv", f"{err}.{hint}")
                continue
            faults = [lines.faults.pop(n) for n in range(first, lines.number + 1) if n in lines.faults]
            if faults:
                yield first, faults[0]
            elif cells:
                yield first, _csv_row(header, cells)


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | RowFault:
    if len(cells) != len(header):
        count = f"{len(cells)} cells, but the header names {len(header)} columns"
        return RowFault("csv", f"{count}. Quote cells that hold the delimiter.")
    return dict(zip(header, cells, strict=True))
