"""Content-addressed folders of built models.

    objects/<hash>/…       the files, exactly as transformers and peft load them
    objects/<hash>.json    the list of (path, sha256, bytes) from which <hash> was made

`hash` is `files.tree_hash`. A file is hard-linked from the run where the disk allows it, else copied: deleting the run
then frees nothing that the registry needs, and keeping both costs no extra space. The price of a hard link is that whoever
edits the run's file in place edits the object too; objects are therefore made read-only, and `verify` finds such an edit.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from factory.errors import RegistryError
from factory.registry.files import (
    FileEntry,
    entries,
    read_json,
    sha256_file,
    sync_folder,
    sync_tree,
    tree_hash,
    walk,
    write_json,
)
from factory.registry.locks import LocksRefused, locked

log = logging.getLogger(__name__)
ADDING, TAKING, GONE = ".adding-", ".taking-", ".gone-"
"""How folders begin that a writer fills, that an archive is unpacked into, and that are being removed."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a stored file."""

    path: str
    what: str


class Store:
    """The `objects/` folder of one registry."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Folder of one object. Raises RegistryError when it is not stored."""
        folder = self.root / digest
        if not folder.is_dir():
            raise RegistryError(f"{folder}: the stored model is gone. Restore it from a backup, or run the same build again.")
        return folder

    def add(self, folder: Path, *, replaced: Mapping[str, bytes] | None = None) -> str:
        """Store a folder and return its hash; storing equal content again is free.

        Args:
            folder: what to store; links are followed, so that the object holds real files.
            replaced: relative path -> content to store instead of the file of that name (must exist in `folder`).

        Raises:
            RegistryError: the folder is missing or empty, or a file cannot be read.
        """
        names = list(walk(folder)) if folder.is_dir() else []
        if not names:
            raise RegistryError(f"{folder}: is missing or empty, so there is nothing to store. Run the build again.")
        self.root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=ADDING, dir=self.root))
        try:
            for name in names:
                target = staging / name
                target.parent.mkdir(parents=True, exist_ok=True)
                content = (replaced or {}).get(name)
                if content is None:
                    _store_file(folder / name, target, owner=folder.resolve())
                else:
                    target.write_bytes(content)
            files = entries(staging)
            return self.publish(staging, files)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, staging: Path, files: list[FileEntry]) -> str:
        """Give a complete folder beside the objects its name; nothing is moved when the object is here and intact.

        Args:
            staging: on the disk of `objects/`; `files` are its entries.
        """
        digest = tree_hash(files)
        sync_tree(staging)  # slow, so before the lock
        with self._lock(digest):
            if self._is_stored(digest, files):
                # A sign of use, for a cleaner on a machine that these locks do not reach.
                os.utime(self.root / digest)
                return digest
            self.discard(digest)
            for file in files:
                (staging / file.path).chmod(0o444)
            write_json(self.root / f"{digest}.json", [asdict(file) for file in files])
            staging.chmod(0o755)
            staging.rename(self.root / digest)
            sync_folder(self.root)
        return digest

    @contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        """Two writers of equal content come one after the other."""
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.root.parent / ".locks" / f"object-{digest[0]}"))
            except LocksRefused as err:
                log.warning("%s Storing goes on without; do not write from two machines at once.", err)
            yield

    def _is_stored(self, digest: str, files: list[FileEntry]) -> bool:
        folder = self.root / digest
        if not folder.is_dir() or not (self.root / f"{digest}.json").is_file():
            return False
        # A damaged object is replaced rather than believed.
        return [file.path for file in files] == list(walk(folder)) and not self.verify(digest)

    def discard(self, digest: str) -> None:
        """Remove an object. It is renamed first, so that no reader meets half of one."""
        folder = self.root / digest
        if folder.exists():
            gone = Path(tempfile.mkdtemp(prefix=GONE, dir=self.root))
            folder.rename(gone / digest)
            sync_folder(self.root)
            (self.root / f"{digest}.json").unlink(missing_ok=True)
            shutil.rmtree(gone)
        (self.root / f"{digest}.json").unlink(missing_ok=True)

    def files(self, digest: str) -> list[FileEntry]:
        """What the object held when it was stored."""
        rows = read_json(self.root / f"{digest}.json")
        try:
            files = [FileEntry(**row) for row in rows]
            if not all(isinstance(f.path, str) and isinstance(f.sha256, str) and type(f.num_bytes) is int for f in files):
                raise TypeError("wants path, sha256 and num_bytes")
            return files
        except TypeError as err:
            raise RegistryError(f"{self.root / digest}.json: is not a list of files: {err}. Restore it from a backup.") from err

    def num_bytes(self, digest: str) -> int:
        """Size of the object's content."""
        return sum(file.num_bytes for file in self.files(digest))

    def verify(self, digest: str) -> list[Problem]:
        """Hash every file again; one Problem for each damaged, missing or added file, in the order of paths."""
        try:
            files = self.files(digest)
        except RegistryError as err:
            return [Problem(f"objects/{digest}.json", str(err))]
        if tree_hash(files) != digest:
            return [Problem(f"objects/{digest}.json", "the list of files was changed: it does not give the object's own hash")]
        folder, problems = self.root / digest, []
        for file in files:
            path = folder / file.path
            if not path.is_file():
                problems.append(Problem(f"objects/{digest}/{file.path}", "missing"))
            elif (found := sha256_file(path)) != file.sha256:
                problems.append(
                    Problem(f"objects/{digest}/{file.path}", f"damaged: sha256 is {found[:12]}…, wanted {file.sha256[:12]}…")
                )
        known = {file.path for file in files}
        problems += [
            Problem(f"objects/{digest}/{name}", "was not there when stored") for name in walk(folder) if name not in known
        ]
        return sorted(problems, key=lambda problem: problem.path)


def _store_file(source: Path, target: Path, *, owner: Path) -> None:
    """Hard-link a file of the stored folder; copy one that a link leads to elsewhere, because objects are made read-only."""
    real = source.resolve()
    if real.is_relative_to(owner):
        try:
            os.link(real, target)
            return
        except OSError as err:
            log.debug("%s is copied: %s", source, err)
    try:
        shutil.copyfile(real, target)
    except OSError as err:
        raise RegistryError(f"{source}: cannot be stored: {err.strerror}. Check the disk and the permissions.") from err
