"""Files that survive a power cut: atomic writes, folder renames that are synced, and hashes of files and folders."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import RegistryError

_REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space, or move FACTORY_HOME to a larger one",
    errno.EDQUOT: "The quota is spent: free some space, or move FACTORY_HOME elsewhere",
    errno.EFBIG: "A limit on the size of files (ulimit -f, or the file system's) is reached: raise it, or move FACTORY_HOME",
    errno.EROFS: "The disk is mounted read-only: mount it for writing, or move FACTORY_HOME",
    errno.EACCES: "This user has no access there: mend the permissions, or move FACTORY_HOME",
    errno.EPERM: "This user has no access there: mend the permissions, or move FACTORY_HOME",
    errno.EIO: "The disk reports errors: look at the system's log, and move FACTORY_HOME to a sound one",
}  # fmt: skip
BLOCK = 1 << 20
"""Bytes read at a time while hashing."""


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of a folder."""

    path: str
    """Relative to the folder, with forward slashes."""
    sha256: str
    num_bytes: int


def disk_error(err: OSError, where: Path) -> RegistryError:
    """The same in the user's words: what, where, what to do."""
    place = err.filename or where
    remedy = _REMEDIES.get(err.errno or 0, "Check the disk and the permissions")
    return RegistryError(f"{place}: {err.strerror or err}. {remedy}; the same command goes on from what is finished.")


def disk_fault(err: BaseException) -> OSError | None:
    """The disk's own error behind an exception, also where a library tells it only in words (safetensors: `(os error 28)`)."""
    seen: BaseException | None = err
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _REMEDIES:
            return seen
        told = re.search(r"\(os error ([0-9]+)\)", str(seen))
        if told and int(told[1]) in _REMEDIES:
            return OSError(int(told[1]), os.strerror(int(told[1])))
        seen = seen.__cause__ or seen.__context__
    return None


def sha256_file(path: Path) -> str:
    """Hash of the content. Raises RegistryError when the file cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as err:
        raise RegistryError(f"{path}: cannot be read: {err.strerror}. Check the disk and the permissions.") from err
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of plain data, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def walk(folder: Path) -> Iterator[str]:
    """Relative paths of all files under `folder`, sorted; links to folders are followed, `__pycache__` is left out."""
    found = []
    for here, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [(Path(here) / name).relative_to(folder).as_posix() for name in names]
    yield from sorted(found)


def entries(folder: Path, skip: Iterable[str] = ()) -> list[FileEntry]:
    """Every file under `folder` with hash and size, sorted by path. `skip` names relative paths to leave out."""
    left_out = set(skip)
    return [
        FileEntry(name, sha256_file(folder / name), (folder / name).stat().st_size)
        for name in walk(folder)
        if name not in left_out
    ]


def tree_hash(files: Iterable[FileEntry]) -> str:
    """Hash of a folder: of its sorted (relative path, sha256) pairs. Times and permissions do not count."""
    return sha256_json([[file.path, file.sha256] for file in sorted(files)])


def write_atomic(path: Path, content: str | bytes, *, is_new: bool = False) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never half.

    Args:
        is_new: raise FileExistsError when the file exists, also when another machine writes it at the same moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if is_new:
            give_new_name(temporary, path)
        else:
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def give_new_name(temporary: Path, path: Path) -> None:
    """Give a complete file its name, which must be free (FileExistsError).

    A hard link is the one call that creates a complete file under a name that must be free, on network disks too.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        # An NFS server whose answer was lost is asked twice, and then refuses what it has done.
        if temporary.stat().st_nlink < 2 or not path.samefile(temporary):
            raise
    except OSError:
        # A disk without hard links (exFAT, some FUSE): the lock that callers hold has to do.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
        return
    temporary.unlink()


def write_json(path: Path, value: Any, *, is_new: bool = False) -> None:
    """`write_atomic` of indented JSON; refuses NaN."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomic(path, text, is_new=is_new)


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises RegistryError naming the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise RegistryError(f"{path}: cannot be read: {err}. Restore it from a backup, or build the run again.") from err


def sync_folder(folder: Path) -> None:
    """Make the names inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make every file under `folder`, and the names, durable. Links are not followed."""
    for here, _, names in os.walk(folder):
        for name in names:
            path = Path(here) / name
            if not path.is_symlink():
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        sync_folder(Path(here))


def rename_folder(source: Path, target: Path) -> None:
    """Move a complete folder into place: content first, then the name, each synced. `target` must not exist."""
    sync_tree(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    sync_folder(target.parent)
