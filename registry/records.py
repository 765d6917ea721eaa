"""What the registry says of one built model: the content of `manifests/<id>.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from factory.errors import RegistryError

FORMAT = 1
"""Version of this layout."""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
"""Names of models and runs; they become file names."""


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
        return self.evals.get(self.stage, {}).get("test", {})

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any], where: str) -> ModelRecord:
        """Inverse of `to_json`. Raises RegistryError naming the file and the key."""
        if row.get("format") != FORMAT:
            raise RegistryError(
                f"{where}: has format {row.get('format')!r}, this factory reads {FORMAT}. Use the factory that wrote it."
            )
        known = {part.name for part in fields(cls)}
        wrong = sorted(known.symmetric_difference(row))
        if wrong:
            raise RegistryError(f"{where}: keys missing or unknown: {', '.join(wrong)}. Restore it from a backup.")
        steps = tuple(LineageStep(**step) for step in row["lineage"])
        return cls(**{**row, "lineage": steps, "notes": tuple(row["notes"])})
