"""Put a registry right as far as its own files allow, and say exactly what was done and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from factory.errors import RegistryError
from factory.registry.files import entries, sync_folder, tree_hash, write_json
from factory.registry.gc import ASIDE, WAIT_S, needed_objects
from factory.registry.locks import cleaning, lock_warning
from factory.registry.models import Registry
from factory.registry.records import DIGEST, read_record


@dataclass(frozen=True)
class Done:
    """One repair."""

    path: str
    """Relative to the registry."""
    what: str


@dataclass(frozen=True)
class Repaired:
    """What `repair` did, and what is left to the user."""

    done: tuple[Done, ...]
    left: tuple[Done, ...]
    """Faults that only a backup, an archive or another build mends."""
    warning: str | None


def repair(registry: Registry, *, dry_run: bool = False, wait_s: float = WAIT_S) -> Repaired:
    """Move unreadable manifests aside, mend or remove lists of files, build the index again where it is not as it should be.

    Weights are never changed or removed. Objects with a sound list are not hashed; `verify` does that.

    Raises:
        RegistryError: writers did not end in time, or the disk cannot be written.
    """
    if not registry.root.is_dir():
        return Repaired((), (), None)
    with cleaning(registry.root, wait_s):
        work = _Repair(registry, dry_run)
        try:
            work.manifests()
            work.objects()
            work.index()
        except OSError as err:
            raise RegistryError(f"{registry.root}: cannot be repaired: {err}. Check the disk and the permissions.") from err
    return Repaired(tuple(work.done), tuple(work.left), lock_warning(registry.root))


class _Repair:
    def __init__(self, registry: Registry, dry_run: bool) -> None:
        self.registry, self.dry_run = registry, dry_run
        self.done: list[Done] = []
        self.left: list[Done] = []
        self.sound: list[Path] = []

    def _do(self, path: Path, what: str, act: Callable[[], object]) -> None:
        if not self.dry_run:
            act()
        self.done.append(Done(path.relative_to(self.registry.root).as_posix(), what))

    def _leave(self, name: str, what: str) -> None:
        self.left.append(Done(name, what))

    def manifests(self) -> None:
        for path in self.registry.manifest_paths():
            try:
                read_record(path)
                self.sound.append(path)
            except RegistryError as err:
                target = _free_name(self.registry.root / ASIDE / path.name)
                self._do(path, f"moved to {ASIDE}/{target.name}, because {err}", lambda p=path, t=target: _move(p, t))
        for path in sorted((self.registry.root / ASIDE).glob("*")):
            self._leave(
                f"{ASIDE}/{path.name}",
                "a manifest that cannot be read: mend it and move it back to manifests/, restore it from a backup, or delete it. "
                "Until then gc keeps every object, because this model may need it.",
            )

    def objects(self) -> None:
        records = [read_record(path) for path in self.sound]
        needed = needed_objects(self.registry, records)
        store = self.registry.store
        folders = {path.name for path in store.root.glob("*") if DIGEST.fullmatch(path.name) and path.is_dir()}
        lists = {path.stem for path in store.root.glob("*.json") if DIGEST.fullmatch(path.stem)}
        for digest in sorted(lists - folders - needed):
            path = store.root / f"{digest}.json"
            self._do(path, "removed: a list of files without the files, and no model needs it", path.unlink)
        for digest in sorted(folders):
            if not self._has_sound_list(digest):
                self._mend_list(digest, is_needed=digest in needed)
        for record in records:
            gone = [f"{role} ({digest[:12]})" for role, digest in record.artifacts.items() if digest not in folders]
            if gone:
                self._leave(
                    f"manifests/{record.id}.json",
                    f"its files are gone: {', '.join(gone)}. Restore objects/ from a backup, `factory models take` an archive of "
                    "it, or run the same build again.",
                )

    def _has_sound_list(self, digest: str) -> bool:
        try:
            return tree_hash(self.registry.store.files(digest)) == digest
        except RegistryError:
            return False

    def _mend_list(self, digest: str, *, is_needed: bool) -> None:
        folder, path = self.registry.store.root / digest, self.registry.store.root / f"{digest}.json"
        files = entries(folder)
        if tree_hash(files) == digest:
            how = "written again" if path.exists() else "written"
            self._do(
                path,
                f"{how} from the files, whose hashes give the object's name",
                lambda: write_json(path, [asdict(f) for f in files]),
            )
            return
        need = "A model needs it: restore it from a backup, or run the same build again." if is_needed else (
            "No model needs it: `factory models gc` removes it."
        )  # fmt: skip
        self._leave(
            f"objects/{digest}", f"its list of files is missing or damaged, and the files are not those it was made of. {need}"
        )

    def index(self) -> None:
        index = self.registry.index
        if self.dry_run:
            if self.done or not index.holds_the_truth():
                self._do(index.path, "would be built again", lambda: None)
        elif not index.holds_the_truth():
            self._do(index.path, f"built again from {len(self.sound)} manifests", index.rebuild)


def _free_name(path: Path) -> Path:
    number, found = 1, path
    while found.exists():
        number, found = number + 1, path.with_name(f"{path.stem}.{number + 1}{path.suffix}")
    return found


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    source.rename(target)
    sync_folder(target.parent)
    sync_folder(source.parent)
