"""What of a registry nobody needs, and its removal. Nothing that a manifest, a build or a running writer needs is touched."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from factory.errors import ConfigError, RegistryError
from factory.registry.files import sync_folder
from factory.registry.locks import cleaning, lock_warning
from factory.registry.models import CHAIN, Registry
from factory.registry.records import DIGEST, ModelRecord
from factory.registry.relatives import weights_of
from factory.registry.store import ADDING, GONE, TAKING

WAIT_S = 60.0
"""How long gc and repair wait for running writers."""
UNREACHED_AGE_S = 86_400.0
"""Age below which nothing is removed on a disk whose locks may not reach the other machines that write."""
INDEX_AGE_S = 3600.0
"""Readers build an index without a lock, so a half-built one is left this long."""
ASIDE = "aside"
"""Folder of manifests that `repair` could not read."""


@dataclass(frozen=True)
class Removal:
    """One thing to remove."""

    what: str
    """`model`, `object`, `list` or `leftover`."""
    path: str
    """Relative to the registry."""
    num_bytes: int
    """Bytes on disk that no other name holds; a file that a run still links counts nothing."""
    why: str


@dataclass(frozen=True)
class Cleaning:
    """What gc removed, or would remove."""

    removed: tuple[Removal, ...]
    kept: tuple[tuple[str, str], ...]
    """(path or model, why it stays) of all that looks removable and is not."""
    warning: str | None
    """Why locks may not reach other machines."""

    @property
    def num_bytes(self) -> int:
        """Bytes that are free afterwards."""
        return sum(removal.num_bytes for removal in self.removed)


def collect(
    registry: Registry,
    *,
    keep_last: int | None = None,
    min_age_s: float | None = None,
    dry_run: bool = False,
    wait_s: float = WAIT_S,
) -> Cleaning:
    """Remove models beyond `keep_last` versions of each name, objects that no manifest needs, and what killed writers left.

    Args:
        keep_last: versions to keep of each name; None keeps all. A version that a kept model was built from stays too.
        min_age_s: younger things stay. None is 0, and a day where locks may not reach other machines.
        dry_run: only look.

    Raises:
        ConfigError: `keep_last` below 1 or a negative age.
        RegistryError: a manifest cannot be read (nothing is removed then), or writers did not end in time.
    """
    if keep_last is not None and keep_last < 1:
        raise ConfigError(f"--keep-last is {keep_last}; it wants 1 or more: a name without a version would be no model.")
    if min_age_s is not None and min_age_s < 0:
        raise ConfigError(f"--min-age is {min_age_s}; it wants 0 or more.")
    if not registry.root.is_dir():
        return Cleaning((), (), None)
    with cleaning(registry.root, wait_s):
        warning = lock_warning(registry.root)
        age = min_age_s if min_age_s is not None else UNREACHED_AGE_S if warning else 0.0
        search = _Search(registry, time.time() - age)
        try:
            search.look(keep_last)
            for _, act in search.found if not dry_run else ():
                act()
        except OSError as err:
            raise RegistryError(f"{registry.root}: cannot be cleaned: {err}. Check the disk and the permissions.") from err
    if not dry_run and search.found:
        registry.refresh()
    return Cleaning(tuple(removal for removal, _ in search.found), tuple(search.kept), warning)


class _Search:
    """One look over a registry that stands still."""

    def __init__(self, registry: Registry, before: float) -> None:
        self.registry, self.store, self.before = registry, registry.store, before
        self.found: list[tuple[Removal, Callable[[], None]]] = []
        self.kept: list[tuple[str, str]] = []

    def look(self, keep_last: int | None) -> None:
        records = self.registry.records()
        stays = self._models(records, keep_last)
        aside = sorted(path.name for path in (self.registry.root / ASIDE).glob("*"))
        needed = needed_objects(self.registry, stays)
        for path in _listed(self.store.root):
            if path.name.startswith((ADDING, TAKING, GONE)):
                self._offer("leftover", path, "a writer that was stopped left it")
            elif path.name.endswith(".tmp") and path.name.startswith("."):
                self._offer("leftover", path, "a write that was stopped left it")
            elif not DIGEST.fullmatch(path.name.removesuffix(".json")) or path.is_symlink():
                self.kept.append((self._name(path), "the registry did not make it"))
            elif path.name.removesuffix(".json") in needed:
                continue
            elif aside:
                self.kept.append(
                    (self._name(path), f"{ASIDE}/{aside[0]} could not be read and may need it: restore or delete that first")
                )
            elif path.suffix != ".json":
                self._offer("object", path, "no model needs it")
            elif not path.with_suffix("").exists():
                self._offer("list", path, "its object is gone and no model needs it")
        for path in _listed(self.registry.root / "manifests"):
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                self._offer("leftover", path, "a write that was stopped left it")
        for path in sorted(self.registry.root.glob(f".{self.registry.index.path.name}.*")):
            with suppress(FileNotFoundError):  # readers build indexes meanwhile
                if path.lstat().st_mtime < time.time() - INDEX_AGE_S:
                    self._offer("leftover", path, "an index that was never finished")

    def _models(self, records: list[ModelRecord], keep_last: int | None) -> list[ModelRecord]:
        """Offer versions beyond the rule for removal; return the models that stay."""
        drop: dict[str, ModelRecord] = {}
        if keep_last is not None:
            for name in {record.name for record in records}:
                versions = sorted((r for r in records if r.name == name), key=lambda r: r.version)
                drop |= {record.id: record for record in versions[:-keep_last]}
        stays = [record for record in records if record.id not in drop]
        line = list(stays)
        while line:  # parents of what stays, their parents, and so on
            child = line.pop()
            for parent in [r for r in drop.values() if child.base.get("hash") in weights_of(r) | {r.id}]:
                self.kept.append((parent.id, f"{child.id} was built from it"))
                stays.append(drop.pop(parent.id))
                line.append(parent)
        for record in drop.values():
            path = self.registry.root / "manifests" / f"{record.id}.json"
            if not self._offer("model", path, f"older than the last {keep_last} of '{record.name}'"):
                stays.append(record)
        return stays

    def _offer(self, what: str, path: Path, why: str) -> bool:
        """Note a removal; False when it is too young."""
        if path.lstat().st_mtime > self.before:
            self.kept.append((self._name(path), "younger than the age from which things are removed"))
            return False
        if what == "object":
            self.found.append((Removal(what, self._name(path), freed_bytes(path), why), lambda: self.store.discard(path.name)))
        else:
            self.found.append((Removal(what, self._name(path), freed_bytes(path), why), lambda: _remove(path)))
        return True

    def _name(self, path: Path) -> str:
        return path.relative_to(self.registry.root).as_posix()


def needed_objects(registry: Registry, records: Iterable[ModelRecord]) -> set[str]:
    """Hashes of the objects that these models need, that a build uses as its base, and that adapters among them name."""
    needed: set[str] = set()
    for record in records:
        needed |= set(record.artifacts.values())
        needed |= {str(record.base.get("hash")), Path(record.base.get("path") or "").name}
    for link in sorted((registry.root.parent / "runs").glob("*/stages/*/model")):
        if link.is_symlink():
            needed.add(link.resolve().name)
    line = list(needed)
    while line:
        chain = registry.store.root / line.pop() / CHAIN
        if not chain.is_file():
            continue
        more = {found.decode() for found in re.findall(rb"[0-9a-f]{64}", chain.read_bytes())} - needed
        needed |= more
        line += more
    return needed


def freed_bytes(path: Path) -> int:
    """Bytes on disk that go when `path` goes; links are not followed, and a file with another name elsewhere stays."""
    files = [path] if path.is_symlink() or not path.is_dir() else [file for file in path.rglob("*") if not file.is_dir()]
    return sum(stat.st_size for stat in (file.lstat() for file in files) if stat.st_nlink == 1)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
