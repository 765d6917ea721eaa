"""The registry of built models: register, list, show, verify, compare. The manifests are the truth; the index only makes lists fast."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.errors import RegistryError, near_miss
from factory.registry.files import read_json, write_json
from factory.registry.index import Index
from factory.registry.records import ModelRecord
from factory.registry.store import Problem, Store

CHAIN = "adapter_chain.json"
"""File of an adapter folder that names its base and earlier adapters (written by factory.stages.models)."""
_TIMELESS = ("created", "version", "run")
"""Fields that may differ between two registrations of the same model."""


class Registry:
    """All models under one `registry/` folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "objects")
        self.index = Index(root / "index.sqlite", root / "manifests")

    def register(self, record: ModelRecord, model_dir: Path) -> ModelRecord:
        """Store the model's files and write its manifest.

        Equal content under an equal name gives back the existing record; other content becomes the next version.
        `record.version` and `record.artifacts` are filled in here.
        """
        artifacts = self._store_model(model_dir)
        with self._locked():
            same_name = [known for known in self._records() if known.name == record.name]
            wanted = _comparable(replace(record, artifacts=artifacts))
            for known in same_name:
                if _comparable(known) == wanted:
                    return known
            version = 1 + max((known.version for known in same_name), default=0)
            stored = replace(record, artifacts=artifacts, version=version)
            write_json(self.root / "manifests" / f"{stored.id}.json", stored.to_json())
        self.index.refresh()
        return stored

    def _store_model(self, model_dir: Path) -> dict[str, str]:
        """Objects of a model: one folder, or an adapter with its base and earlier adapters, linked to each other by hash."""
        if not (model_dir / CHAIN).is_file():
            return {"model": self.store.add(model_dir)}
        base, earlier, chain = read_chain(model_dir)
        artifacts = {"base": self.store.add(base)}
        for number, folder in enumerate(earlier):
            artifacts[f"adapter-{number}"] = self._store_adapter(folder, artifacts["base"], list(artifacts.values())[1:])
        artifacts["model"] = self._store_adapter(model_dir, artifacts["base"], list(artifacts.values())[1:], chain)
        return artifacts

    def _store_adapter(self, folder: Path, base: str, earlier: list[str], chain: Mapping[str, Any] | None = None) -> str:
        own = dict(chain) if chain is not None else dict(read_json(folder / CHAIN)) if (folder / CHAIN).is_file() else {}
        # Neighbours in objects/, so that the whole registry can be moved.
        own |= {"base": f"../{base}", "adapters": [f"../{digest}" for digest in earlier]}
        own.pop("written_at", None)
        replaced = {CHAIN: json.dumps(own, sort_keys=True).encode()} if (folder / CHAIN).is_file() else {}
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
        if path.is_file():
            return ModelRecord.from_json(read_json(path), str(path))
        records = list(self._records())
        versions = [record for record in records if record.name == name]
        if versions:
            return max(versions, key=lambda record: record.version)
        known = sorted({record.id for record in records} | {record.name for record in records})
        raise RegistryError(f"no model '{name}' in {self.root}.{near_miss(name, known)} `factory models list` shows what there is.")

    def model_path(self, name: str) -> Path:
        """Folder to load: transformers weights, or an adapter with its chain."""
        return self.store.path(self.show(name).artifacts["model"])

    def verify(self, name: str | None = None) -> list[Problem]:
        """Hash again everything that one model (or every model) needs; an empty list means intact."""
        problems: list[Problem] = []
        records: list[ModelRecord] = []
        if name is not None:
            records.append(self.show(name))
        else:
            for path in self._manifest_paths():
                try:
                    records.append(ModelRecord.from_json(read_json(path), str(path)))
                except RegistryError as err:
                    problems.append(Problem(f"manifests/{path.name}", str(err)))
        for digest in sorted({digest for record in records for digest in record.artifacts.values()}):
            problems += self.store.verify(digest)
        return problems

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

    def _manifest_paths(self) -> list[Path]:
        return sorted((self.root / "manifests").glob("*.json"))

    def _records(self) -> Iterator[ModelRecord]:
        for path in self._manifest_paths():
            yield ModelRecord.from_json(read_json(path), str(path))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process chooses a version number at a time."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def read_chain(folder: Path) -> tuple[Path, tuple[Path, ...], dict[str, Any]]:
    """(base, earlier adapters, raw content) of an adapter folder; paths are relative to it or to where it was written."""
    raw = read_json(folder / CHAIN)
    try:
        written_at = Path(raw.get("written_at", folder))
        names = [raw["base"], *raw["adapters"]]
        found = []
        for name in names:
            places = [(folder / name).resolve(), (written_at / name).resolve()]
            found.append(next((place for place in places if place.is_dir()), places[0]))
    except (KeyError, TypeError, AttributeError) as err:
        raise RegistryError(f"{folder / CHAIN}: needs the keys base and adapters: {err!r}. Build the stage again.") from err
    return found[0], tuple(found[1:]), raw


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
