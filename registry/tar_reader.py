"""A tar reader that trusts nothing: plain files only, in constant memory, and never a byte more than the caller asks for.

Python's tarfile reads extended headers of any size into memory and knows links, devices and sparse files. This reads the
format that `archive.write_tar` writes (GNU tar without compression, POSIX.1-1988 headers) and refuses all else.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from factory.errors import RegistryError

RECORD = 512
LONG_NAME = b"L"
NAME_LIMIT = 8192
"""Bytes of a name; Linux takes 4096."""
PADDING_LIMIT = 1 << 20
"""Zeros that may follow the last member."""
_KINDS = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder", tarfile.FIFOTYPE: "a pipe", tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.XHDTYPE: "an extended header", tarfile.XGLTYPE: "an extended header",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One file of the archive; its content is read with `TarReader.content` before the next member."""

    name: str
    num_bytes: int


class TarReader:
    """An archive opened for one pass. A context manager.

    Raises:
        RegistryError: the file is missing, no plain file, or not such an archive. Also from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Without O_NONBLOCK a pipe would wait for a writer for ever.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as err:
            raise RegistryError(f"{path}: cannot be read: {err.strerror}. Check the name and the permissions.") from err
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise RegistryError(
                f"{path}: is no plain file, so it is no archive. Name the file that `factory models archive` wrote."
            )
        self._file: BinaryIO = os.fdopen(handle, "rb")
        self._left = self._pad = 0

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def next(self) -> Member | None:
        """The next file, or None at the end mark. The content of the one before has to be read."""
        if self._left:
            raise RuntimeError("read the member's content first")
        long_name = None
        while True:
            block = self._read(RECORD)
            if not any(block):
                if long_name is not None:
                    raise self.wrong("ends in the middle of a name")
                self._end()
                return None
            try:
                # Not strict: before a long name stands its beginning, which may end within a letter.
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except (tarfile.HeaderError, ValueError, OverflowError) as err:
                raise self.wrong(f"is no archive of a model, or damaged ({err})") from err
            if info.size < 0:
                raise self.wrong("states a negative size")
            if info.type == LONG_NAME and long_name is None:
                long_name = self._long_name(info.size)
                continue
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or block[156:157] not in (b"0", b"\0"):
                raise self.wrong(
                    f"holds {_KINDS.get(info.type, 'something')} ({info.name[:80]!r}), and may hold plain files only"
                )
            self._left, self._pad = info.size, -info.size % RECORD
            return Member(long_name if long_name is not None else info.name, info.size)

    def content(self, block_size: int) -> Iterator[bytes]:
        """The member's bytes, at most `block_size` at a time."""
        while self._left:
            block = self._read(min(block_size, self._left))
            self._left -= len(block)
            yield block
        self._zeros(self._read(self._pad))
        self._pad = 0

    def wrong(self, what: str) -> RegistryError:
        """The error for this archive."""
        return RegistryError(
            f"{self.path}: {what}. Nothing was taken. Ask for the archive again: `factory models archive` writes it."
        )

    def _long_name(self, num_bytes: int) -> str:
        if not 0 < num_bytes <= NAME_LIMIT:
            raise self.wrong(f"states a name of {num_bytes} bytes")
        raw = self._read(num_bytes + -num_bytes % RECORD)[:num_bytes]
        try:
            return raw.rstrip(b"\0").decode()
        except UnicodeError as err:
            raise self.wrong("holds a name that is not UTF-8") from err

    def _end(self) -> None:
        rest = self._file.read(PADDING_LIMIT + 1)
        if len(rest) > PADDING_LIMIT or len(rest) < RECORD:
            raise self.wrong("is cut short" if len(rest) < RECORD else "goes on after its end mark")
        self._zeros(rest)

    def _zeros(self, block: bytes) -> None:
        if any(block):
            raise self.wrong("holds bytes where there should be padding")

    def _read(self, num_bytes: int) -> bytes:
        try:
            block = self._file.read(num_bytes)
        except OSError as err:
            raise RegistryError(f"{self.path}: cannot be read: {err.strerror}. Check the disk.") from err
        if len(block) != num_bytes:
            raise self.wrong("is cut short")
        return block
