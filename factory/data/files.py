"""Which files a request names, and what they really are before anyone parses them."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from factory.data.report import RowFault
from factory.errors import DataError

TABLE_SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet", ".tar": "tar", ".tgz": "tar",
}  # fmt: skip
"""File suffix -> kind of table. `.gz` may follow a text suffix or `.tar`."""
SIDE_FILES = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json"}
"""JSON files that describe a data set rather than hold its rows."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
LFS_PREFIX = b"version https://git-lfs.github.com/spec/"
MAX_LINE_BYTES = 256 * 2**20
"""Longest line of a text file: room for a chromosome or an image in base64, and an end to a file without line breaks."""


@dataclass(frozen=True)
class FileFormat:
    """A kind of file that a pack reads itself, such as FASTA."""

    kind: str
    suffixes: tuple[str, ...]
    """`.fasta`, `.fa`; `.gz` may follow. The longest that fits a name decides, before the factory's own tables."""
    title: str
    """How to name it to a user: `FASTA (.fasta, .fa)`."""
    read: Callable[[Path], Iterator[tuple[int, dict[str, Any] | RowFault]]]
    """Streams (number, row) or (number, RowFault); raises RowFault for a fault of the whole file. One file may be one row."""

    def fits(self, path: Path) -> bool:
        """True when the file's name ends with one of the suffixes, perhaps followed by `.gz`."""
        return path.name.lower().removesuffix(".gz").endswith(self.suffixes)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a request. `name` is relative to the named path, so that ids do not depend on where data is mounted."""

    path: Path
    name: str
    kind: str | None
    """`jsonl`, `json`, `csv`, `tsv`, `parquet`, `tar` or `hub`; the kind of a pack's own format; None for a file that is no table."""
    format: FileFormat | None = None
    """Set when a pack reads this file itself."""


def kind_of(path: Path) -> str | None:
    """Kind of table by the file's name, or None. `captions.csv.gz` is a csv."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes = suffixes[:-1]
    return TABLE_SUFFIXES.get(suffixes[-1]) if suffixes else None


def list_files(paths: Iterable[str], *, online: bool = False, formats: Sequence[FileFormat] = ()) -> list[DataFile]:
    """All files below the named paths, in a fixed order; hidden files and data-set descriptions are left out.

    Args:
        formats: further kinds of files that the caller can read.
        online: `hub:owner/name` stands for a data set on the hub, and so does `owner/name` where no such path exists.

    Raises:
        DataError: a path does not exist, a hub id without `online`, or two paths would give their files the same names.
    """
    found: list[DataFile] = []
    for text in paths:
        root = Path(text).expanduser()
        if root.is_dir():
            found += [_entry(path, formats, f"{root.resolve().name}/{path.relative_to(root).as_posix()}") for path in _walk(root)]
        elif root.is_file():
            found.append(_entry(root, formats, root.name))
        elif text.startswith("hub:") or (online and HUB_ID.fullmatch(text)):
            name = text.removeprefix("hub:")
            if not online:
                raise DataError(
                    f"{text}: needs the network, which is off. Pass --online, or download '{name}' and name its folder."
                )
            found.append(DataFile(Path(name), f"hub:{name}", "hub"))
        else:
            raise DataError(f"{text}: no such file or folder. Check --data (data.paths), or that the disk is mounted.")
    names: dict[str, Path] = {}
    unique: list[DataFile] = []
    for entry in found:
        other = names.setdefault(entry.name, entry.path)
        if other is not entry.path and other.resolve() != entry.path.resolve():
            raise DataError(f"{other} and {entry.path} are both called {entry.name}. Name their common parent folder instead.")
        if other is entry.path:
            unique.append(entry)
    return unique


def _walk(root: Path) -> list[Path]:
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if not name.startswith(".") and name not in SIDE_FILES]
    return found


def _entry(path: Path, formats: Sequence[FileFormat], name: str) -> DataFile:
    fitting = [own for own in formats if own.fits(path)]
    if fitting:
        own = max(fitting, key=lambda each: max(len(suffix) for suffix in each.suffixes))
        return DataFile(path, name, own.kind, own)
    return DataFile(path, name, kind_of(path))


def refuse_impostor(head: bytes, what: str, field: str = "file") -> None:
    """Raise RowFault when `head` (the first bytes) shows an empty file, a Git LFS pointer, or a saved web page."""
    if not head:
        raise RowFault(field, f"{what} is empty (0 bytes). Copy or download it again.")
    if head.startswith(LFS_PREFIX):
        raise RowFault(field, f"{what} is a Git LFS pointer, not the file itself. Run `git lfs pull` where it came from.")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        raise RowFault(field, f"{what} is an HTML page, probably a login or error page saved by a download. Download it again.")
    if not head.strip(b"\0"):
        raise RowFault(field, f"{what} holds only zero bytes; a copy was cut short. Copy it again.")


class _Unpacked(gzip.GzipFile):
    """A gzipped file whose damage is a RowFault wherever it is met."""

    def read(self, size: int | None = -1) -> bytes:
        return self._tried(super().read, size)

    def read1(self, size: int = -1) -> bytes:
        return self._tried(super().read1, size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._tried(super().readline, size)

    @staticmethod
    def _tried(read: Callable[[Any], bytes], size: int | None) -> bytes:
        try:
            return read(size)
        except (EOFError, OSError, zlib.error) as err:
            raise RowFault("file", f"ends early: {err}. It is truncated or damaged; copy it again.") from err


def lines_of(handle: IO[bytes]) -> Iterator[bytes]:
    """Lines of a binary file with their ends. Raises RowFault at a line longer than MAX_LINE_BYTES."""
    number = 0
    while line := handle.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise RowFault("file", f"line {number} is longer than {MAX_LINE_BYTES} bytes; is this a text file?")
        yield line


def read_at_most(handle: IO[bytes], limit: int) -> bytes:
    """The rest of a file, piece by piece: asking for `limit` bytes at once would set aside memory for all of them.

    Raises RowFault when there are more.
    """
    pieces, size = [], 0
    while piece := handle.read(1 << 20):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise RowFault("file", f"holds more than {limit} bytes. Divide it into smaller files.")
    return b"".join(pieces)


class Bounded(io.BufferedReader):
    """A file for libraries that read as many bytes as a header says: never more is asked for than there are, so that a damaged
    length is found as a short read and not as an allocation."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def open_checked(path: Path) -> IO[bytes]:
    """Open for reading in binary, through gzip when the content is gzipped, after `refuse_impostor`.

    Raises:
        RowFault: the file cannot be opened, is empty, a pointer or a web page, or is text in UTF-16; and while it is read, when
            what is gzipped is damaged or cut short.
    """
    try:
        handle = path.open("rb")
        head = handle.read(512)
        handle.seek(0)
    except OSError as err:
        raise RowFault("file", f"cannot be opened: {err.strerror}. Check the path and its permissions.") from err
    refuse_impostor(head, "the file")
    if head[:2] == b"\x1f\x8b":
        return _Unpacked(fileobj=handle, mode="rb")  # type: ignore[return-value]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        handle.close()
        raise RowFault("file", "is text in UTF-16. Save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`).")
    return handle
