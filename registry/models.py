"""The registry of built models: register, list, show, verify, compare. The manifests are the truth."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.errors import RegistryError, near_miss
from factory.registry.files import entries, read_json, tree_hash, write_json
from factory.registry.index import Index
from factory.registry.locks import LocksRefused, locked, writing
from factory.registry.records import ModelRecord, read_record
from factory.registry.seal import sealed
from factory.registry.store import Problem, Store

log = logging.getLogger(__name__)
CHAIN = "adapter_chain.json"
"""File of an adapter folder that names its base and earlier adapters (written by factory.stages.models)."""
ADAPTER_CONFIG = "adapter_config.json"
"""File of peft, which also names the base."""
_ID = re.compile(r"-v[0-9]+$")
_TIMELESS = ("created", "version", "run")
"""Fields that may differ between two registrations of the same model."""


class Registry:
    """All models under one `registry/` folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "objects")
        self.index = Index(root / "index.sqlite", root / "manifests")

    def register(self, record: ModelRecord, model_dir: Path, *, base_in_place: Path | None = None) -> ModelRecord:
        """Store the model's files and write its manifest.

        Equal content under an equal name gives back the existing record; other content becomes the next version.
        `record.version` and `record.artifacts` are filled in here.

        Args:
            base_in_place: the user's own base folder. It is referenced (`base.path`, `base.hash`), never copied or linked.
        """
        if base_in_place is not None and not record.base.get("hash"):
            raise RegistryError(
                f"{base_in_place}: a base that stays in place needs its hash in the record. Build the base step again."
            )
        kept = base_in_place.resolve() if base_in_place is not None else None
        record = replace(record, base={**record.base, "path": str(kept)}) if kept is not None else record
        with self.writing():
            try:
                artifacts = {} if kept is not None and model_dir.resolve() == kept else self._store_model(model_dir, kept)
                stored = self.enter(replace(record, artifacts=artifacts, version=0))
            except OSError as err:
                raise RegistryError(
                    f"{self.root}: the model cannot be registered: {err}. Check the disk and the permissions, then run the same "
                    "command again: it goes on from here."
                ) from err
        self.refresh()
        return stored

    def enter(self, record: ModelRecord) -> ModelRecord:
        """Write the manifest of a model whose objects are stored; call it inside `writing`.

        `record.version` is kept where it is above 0 and free, else the model becomes the next version of its name. A model
        that is here already, under any version, gives back that record.
        """
        with self._choosing():
            taken: set[int] = set()
            for path in self._manifests_of(record.name):
                taken.add(int(path.stem.rpartition("-v")[2]))
                try:
                    known = read_record(path)
                except RegistryError as err:
                    log.warning("%s Its version number stays taken.", err)
                    continue
                if _comparable(known) == _comparable(record):
                    return known
            version = record.version
            while True:
                if version < 1 or version in taken:
                    version = 1 + max(taken, default=0)
                stored = replace(record, version=version)
                try:
                    write_json(self.root / "manifests" / f"{stored.id}.json", sealed(stored.to_json()), is_new=True)
                    return stored
                except FileExistsError:  # another machine, which this lock does not reach, was faster
                    taken.add(version)

    def refresh(self) -> None:
        """Bring the index up to date; what stands in its way is logged, because the next reader meets it again."""
        try:
            self.index.refresh()
        except RegistryError as err:
            log.warning("%s", err)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held while objects and their manifest are written: `gc` and `repair` wait for the end."""
        with ExitStack() as held:
            try:
                held.enter_context(writing(self.root))
            except LocksRefused as err:
                log.warning("%s Writing goes on without; run no gc meanwhile.", err)
            yield

    def _store_model(self, model_dir: Path, base_in_place: Path | None) -> dict[str, str]:
        """Objects of a model: one folder, or an adapter with its base and earlier adapters, linked to each other by hash."""
        if not (model_dir / CHAIN).is_file():
            return {"model": self.store.add(model_dir)}
        base, earlier = read_chain(model_dir)
        artifacts: dict[str, str] = {}
        if base_in_place is not None and base.resolve() == base_in_place:
            base_name = str(base_in_place)
        else:
            artifacts["base"] = self.store.add(base)
            # Neighbours in objects/, so that the whole registry can be moved.
            base_name = f"../{artifacts['base']}"
        adapters: list[str] = []
        for number, folder in enumerate(earlier):
            artifacts[f"adapter-{number}"] = self._store_adapter(folder, base_name, adapters)
            adapters.append(artifacts[f"adapter-{number}"])
        artifacts["model"] = self._store_adapter(model_dir, base_name, adapters)
        return artifacts

    def _store_adapter(self, folder: Path, base: str, earlier: Sequence[str]) -> str:
        own = {**read_json(folder / CHAIN), "base": base, "adapters": [f"../{digest}" for digest in earlier]}
        own.pop("written_at", None)
        replaced = {CHAIN: json.dumps(own, sort_keys=True).encode()}
        if (folder / ADAPTER_CONFIG).is_file():
            settings = {**read_json(folder / ADAPTER_CONFIG), "base_model_name_or_path": base}
            replaced[ADAPTER_CONFIG] = json.dumps(settings, sort_keys=True).encode()
        return self.store.add(folder, replaced=replaced)

    def list(self, domain: str | None = None) -> list[dict[str, Any]]:
        """One row per model, newest first: id, name, version, domain, base, stage, metric, value, created."""
        return self.index.rows(domain)

    def reindex(self) -> int:
        """Build the index again from the manifests; return the number of models."""
        return self.index.rebuild()

    def show(self, name: str) -> ModelRecord:
        """The record of an id, or the newest version of a name. Raises RegistryError with a near miss."""
        path = self.root / "manifests" / f"{name}.json"
        if not {"/", "\0"} & set(name) and path.is_file():
            return read_record(path)
        # The newest first; one that gc removes between listing and reading leaves an older one.
        for path in reversed(self._manifests_of(name)):
            try:
                return read_record(path)
            except RegistryError:
                if path.exists():
                    raise
        known = sorted({path.stem for path in self.manifest_paths()} | {_ID.sub("", path.stem) for path in self.manifest_paths()})
        raise RegistryError(
            f"no model '{name}' in {self.root}.{near_miss(name, known)} `factory models list` shows what there is."
        )

    def model_path(self, name: str) -> Path:
        """Folder to load: transformers weights, or an adapter with its chain.

        Raises:
            RegistryError: no such model, its files are gone, or FACTORY_PUBLIC_KEY names a key that did not sign it as it is.
        """
        from factory.registry.signing import require_signature  # which needs this module

        record = self.show(name)
        require_signature(self, record.id)
        return self.store.path(record.artifacts["model"]) if "model" in record.artifacts else Path(record.base["path"])

    def verify(self, name: str | None = None) -> list[Problem]:
        """Hash again everything that one model (or every model) needs; an empty list means intact."""
        records, problems = ([self.show(name)], []) if name is not None else self._readable()
        for digest in sorted({digest for record in records for digest in record.artifacts.values()}):
            found = self.store.verify(digest)
            users = [record for record in records if digest in record.artifacts.values()]
            # A model that gc removed meanwhile needs its files no more.
            if found and any((self.root / "manifests" / f"{user.id}.json").exists() for user in users):
                problems += found
        in_place = {(record.base["path"], record.base["hash"]) for record in records if "path" in record.base}
        for path, digest in sorted(in_place):
            problems += _verify_in_place(Path(path), digest)
        return problems

    def _readable(self) -> tuple[list[ModelRecord], list[Problem]]:
        """All records, and the manifests that hold none."""
        records, problems = [], []
        for path in self.manifest_paths():
            try:
                records.append(read_record(path))
            except RegistryError as err:
                if path.exists():
                    problems.append(Problem(f"manifests/{path.name}", str(err)))
        return records, problems

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """Two models side by side: measured values of the kept stages, and every setting, version and input that differs."""
        a, b = self.show(first), self.show(second)
        return {
            "models": [a.id, b.id],
            "evals": {split: [r.evals.get(r.stage, {}).get(split) for r in (a, b)] for split in ("test", "validation")},
            "stages": [a.stage, b.stage],
            "config": differences(a.config, b.config),
            "versions": differences(a.versions, b.versions),
            "data": differences(a.data, b.data),
            "base": differences(a.base, b.base),
        }

    def manifest_paths(self) -> list[Path]:
        """The file of every model, sorted."""
        return sorted((self.root / "manifests").glob("*.json"))

    def _manifests_of(self, name: str) -> list[Path]:
        """The files of one name's versions, oldest first."""
        wanted, folder = re.compile(rf"{re.escape(name)}-v([0-9]{{1,18}})\.json"), self.root / "manifests"
        # Plain names: ten thousand Path objects take longer than all the rest.
        names = os.listdir(folder) if folder.is_dir() else []
        found = sorted((int(hit[1]), file) for file in names if (hit := wanted.fullmatch(file)))
        return [folder / file for _, file in found]

    def records(self) -> list[ModelRecord]:
        """Every model, by id. Raises RegistryError at a manifest that cannot be read."""
        records, problems = self._readable()
        if problems:
            raise RegistryError(f"{problems[0].what} `factory models repair` moves it aside.")
        return records

    @contextmanager
    def _choosing(self) -> Iterator[None]:
        """Only one process chooses a version number at a time."""
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.root / ".lock"))
            except LocksRefused as err:
                # The manifest is created under a name that must be free, which no lock is needed for.
                log.debug("%s", err)
            yield


def _verify_in_place(folder: Path, digest: str) -> list[Problem]:
    if not folder.is_dir():
        return [Problem(str(folder), "the base model is missing; it was used in place and is not stored here")]
    return [] if tree_hash(entries(folder)) == digest else [Problem(str(folder), "the base model was changed since the build")]


def read_chain(folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """(base, earlier adapters) of an adapter folder; paths are relative to it or to where it was written."""
    raw = read_json(folder / CHAIN)
    try:
        written_at = Path(raw.get("written_at", folder))
        names = [raw["base"], *raw["adapters"]]
        found = []
        for name in names:
            places = [(folder / name).resolve(), (written_at / name).resolve()]
            found.append(next((place for place in places if place.is_dir()), places[0]))  # Store.add reports a missing one
    except (KeyError, TypeError, AttributeError) as err:
        raise RegistryError(f"{folder / CHAIN}: needs the keys base and adapters: {err!r}. Build the stage again.") from err
    return found[0], tuple(found[1:])


def differences(first: Any, second: Any, key: str = "") -> dict[str, list[Any]]:
    """Every leaf that differs: dotted key -> [first, second]; a missing one is null."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        found: dict[str, list[Any]] = {}
        for name in sorted({*first, *second}, key=str):
            found |= differences(first.get(name), second.get(name), f"{key}.{name}" if key else str(name))
        return found
    return {} if first == second else {key: [first, second]}


def _comparable(record: ModelRecord) -> dict[str, Any]:
    plain = json.loads(json.dumps(record.to_json()))
    return {key: value for key, value in plain.items() if key not in _TIMELESS}
