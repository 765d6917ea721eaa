"""What the registry says of one built model: the content of `manifests/<id>.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.registry.files import read_json
from factory.registry.seal import SEAL, unsealed

FORMAT = 1
"""Version of this layout."""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
"""Names of models and runs; they become file names."""
DIGEST = re.compile(r"[0-9a-f]{64}")
"""Hash of an object; it becomes a folder name."""
_ROLE = re.compile(r"model|base|adapter-[0-9]{1,4}")
_TEXTS = ("name", "domain", "stage", "licence", "intended_use", "not_for", "run", "created")
_WHOLE = (("version", 0, 10**9), ("seed", -(2**63), 2**63))
_MAPPINGS = ("base", "artifacts", "config", "versions", "data", "evals")


@dataclass(frozen=True)
class LineageStep:
    """One finished step of the run that built the model, base first."""

    name: str
    kind: str
    start: str | None
    fingerprint: str
    output_hash: str
    """Hash of the model folder (or of all files of a step without a model)."""


@dataclass(frozen=True)
class ModelRecord:
    """A built model with its lineage."""

    name: str
    version: int
    domain: str
    stage: str
    """The stage whose model was kept."""
    base: Mapping[str, Any]
    """`ref`, `hash` and, where known, `licence`, `hub_id`."""
    artifacts: Mapping[str, str]
    """Role -> object hash. `model` is the one to load; `base` and `adapter-N` are what an adapter needs."""
    lineage: tuple[LineageStep, ...]
    config: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    data: Mapping[str, Any]
    """`pack` (name, version, hash) and `files` ({path: hash})."""
    evals: Mapping[str, Any]
    """Stage -> {"test": {...}, "validation": {...}}."""
    licence: str
    intended_use: str
    not_for: str
    run: str
    created: str
    """UTC, ISO 8601."""
    notes: tuple[str, ...] = ()
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        if not SAFE_NAME.fullmatch(self.name):
            raise RegistryError(f"'{self.name}' cannot name a model. Use letters, digits, '.', '_' and '-', at most 120.")

    @property
    def id(self) -> str:
        """`<name>-v<version>`: the manifest's file name."""
        return f"{self.name}-v{self.version}"

    @property
    def primary(self) -> Mapping[str, Any]:
        """name, value, n and ci of the kept stage on the test split; empty when it was not measured."""
        return (self.evals.get(self.stage) or {}).get("test") or {}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Any, where: str) -> ModelRecord:
        """Inverse of `to_json`. Raises RegistryError naming the file and the key."""
        if not isinstance(row, dict):
            raise RegistryError(f"{where}: is no manifest: it holds no JSON object. Restore it from a backup.")
        if row.get("format") != FORMAT:
            raise RegistryError(
                f"{where}: has format {row.get('format')!r}, this factory reads {FORMAT}. Use the factory that wrote it."
            )
        known = {part.name for part in fields(cls)}
        wrong = sorted(known.symmetric_difference(row))
        if wrong:
            raise RegistryError(f"{where}: keys missing or unknown: {', '.join(wrong)}. Restore it from a backup.")
        try:
            json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as err:
            raise RegistryError(f"{where}: holds what cannot be written again: {err}. Restore it from a backup.") from err
        wrong = _wrong_values(row)
        if wrong:
            raise RegistryError(f"{where}: unusable value of {', '.join(wrong)}. Restore it from a backup.")
        steps = tuple(LineageStep(**step) for step in row["lineage"])
        try:
            return cls(**{**row, "lineage": steps, "notes": tuple(row["notes"])})
        except RegistryError as err:
            raise RegistryError(f"{where}: {err}") from err


def _wrong_values(row: Mapping[str, Any]) -> list[str]:
    """Keys whose values are not what readers rely on; hashes and roles become names of files."""
    wrong = [key for key in _TEXTS if not isinstance(row[key], str)]
    wrong += [key for key, low, high in _WHOLE if type(row[key]) is not int or not low <= row[key] < high]
    wrong += [key for key in _MAPPINGS if not isinstance(row[key], dict)]
    if not isinstance(row["notes"], list) or not all(isinstance(note, str) for note in row["notes"]):
        wrong.append("notes")
    if not isinstance(row["lineage"], list) or not all(map(_is_step, row["lineage"])):
        wrong.append("lineage")
    if isinstance(row["artifacts"], dict):
        wrong += [
            f"artifacts.{role}"
            for role, digest in row["artifacts"].items()
            if not _ROLE.fullmatch(role) or not isinstance(digest, str) or not DIGEST.fullmatch(digest)
        ]
    if isinstance(row["evals"], dict):
        wrong += [f"evals.{stage}" for stage, splits in row["evals"].items() if not _is_measured(splits)]
    if isinstance(row["data"], dict):
        wrong += [f"data.{key}" for key in ("pack", "files") if not isinstance(row["data"].get(key), dict | None)]
    if isinstance(row["base"], dict):
        named = ("ref", "hash", "path", "licence", "hub_id", "revision")
        wrong += [f"base.{key}" for key in named if not isinstance(row["base"].get(key), str | None)]
        if "path" in row["base"] and not (row["base"]["path"] and row["base"].get("hash")):
            wrong.append("base.path (needs base.hash)")
    return wrong


def _is_step(step: Any) -> bool:
    names = {part.name for part in fields(LineageStep)}
    if not isinstance(step, dict) or set(step) != names:
        return False
    return all(isinstance(value, str) or (key == "start" and value is None) for key, value in step.items())


def _is_measured(splits: Any) -> bool:
    def is_number(value: Any) -> bool:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**62)

    def is_figure(figures: Any) -> bool:
        if figures is None:
            return True
        if not isinstance(figures, dict) or not isinstance(figures.get("name"), str | None):
            return False
        pair = figures.get("ci")
        is_pair = pair is None or (isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)))
        return is_pair and is_number(figures.get("value")) and is_number(figures.get("n"))

    return isinstance(splits, dict) and all(map(is_figure, splits.values()))


def read_record(path: Path) -> ModelRecord:
    """The record in a manifest file. Raises RegistryError when it cannot be read, or when the file is named after another."""
    row = read_json(path)
    if isinstance(row, dict) and SEAL in row:
        content = unsealed(row)
        if content is None:
            raise RegistryError(
                f"{path}: is not what was written (its key {SEAL} does not fit the rest). Restore it from a backup; if you changed it "
                f"yourself, remove that key."
            )
        row = content
    record = ModelRecord.from_json(row, str(path))
    if path.stem != record.id:
        raise RegistryError(f"{path}: holds the record of {record.id}. Give the file the name {record.id}.json.")
    return record
