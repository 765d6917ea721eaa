"""The registry of built models: register, list, show, verify, compare. The manifests are the truth."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.errors import RegistryError, near_miss
from factory.registry.files import entries, read_json, tree_hash, write_json
from factory.registry.index import Index
from factory.registry.records import ModelRecord
from factory.registry.store import Problem, Store

CHAIN = "adapter_chain.json"
"""File of an adapter folder that names its base and earlier adapters (written by factory.stages.models)."""
ADAPTER_CONFIG = "adapter_config.json"
"""File of peft, which also names the base."""
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
        artifacts = {} if kept is not None and model_dir.resolve() == kept else self._store_model(model_dir, kept)
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
        if path.is_file():
            return ModelRecord.from_json(read_json(path), str(path))
        records = list(self._records())
        versions = [record for record in records if record.name == name]
        if versions:
            return max(versions, key=lambda record: record.version)
        known = sorted({record.id for record in records} | {record.name for record in records})
        raise RegistryError(
            f"no model '{name}' in {self.root}.{near_miss(name, known)} `factory models list` shows what there is."
        )

    def model_path(self, name: str) -> Path:
        """Folder to load: transformers weights, or an adapter with its chain."""
        record = self.show(name)
        return self.store.path(record.artifacts["model"]) if "model" in record.artifacts else Path(record.base["path"])

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
        in_place = {(record.base["path"], record.base["hash"]) for record in records if "path" in record.base}
        for path, digest in sorted(in_place):
            problems += _verify_in_place(Path(path), digest)
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
