"""SQLite index of the manifests. It holds nothing of its own: missing, damaged or old, it is built again."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.registry.files import read_json
from factory.registry.records import ModelRecord

_TABLES = """
CREATE TABLE models (
    id TEXT PRIMARY KEY, name TEXT, version INTEGER, domain TEXT, recipe TEXT, base TEXT, stage TEXT, metric TEXT, value REAL,
    seed INTEGER, created TEXT, run TEXT, licence TEXT);
CREATE TABLE lineage (model TEXT, position INTEGER, step TEXT, kind TEXT, fingerprint TEXT, PRIMARY KEY (model, position));
CREATE TABLE state (manifests TEXT);
"""


class Index:
    """One index file over one folder of manifests."""

    def __init__(self, path: Path, manifests: Path) -> None:
        self.path = path
        self.manifests = manifests

    def rebuild(self) -> int:
        """Write a new index beside the old one and swap them. Returns the number of models.

        Raises:
            RegistryError: a manifest cannot be read.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The state is taken first: a manifest written meanwhile makes the new index count as old.
        state = self._state()
        records = [ModelRecord.from_json(read_json(path), str(path)) for path in sorted(self.manifests.glob("*.json"))]
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(fresh)) as connection, connection:
                connection.executescript(_TABLES)
                connection.executemany(
                    f"INSERT INTO models VALUES ({','.join('?' * 13)})", [_model_row(record) for record in records]
                )
                connection.executemany(
                    "INSERT INTO lineage VALUES (?,?,?,?,?)", [row for record in records for row in _lineage_rows(record)]
                )
                connection.execute("INSERT INTO state VALUES (?)", (state,))
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)
        return len(records)

    def refresh(self) -> None:
        """Rebuild when the manifests are not those that were indexed."""
        if self._indexed_state() != self._state():
            self.rebuild()

    def rows(self, domain: str | None = None) -> list[dict[str, Any]]:
        """Models, newest first, as plain rows."""
        return self._select("SELECT * FROM models WHERE ? IS NULL OR domain = ? ORDER BY created DESC, id", (domain, domain))

    def built_from(self, fingerprint: str) -> list[str]:
        """Ids of the models whose lineage holds a step with this fingerprint."""
        return [
            row["model"]
            for row in self._select("SELECT DISTINCT model FROM lineage WHERE fingerprint = ? ORDER BY model", (fingerprint,))
        ]

    def _select(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        self.refresh()
        if not self.path.exists():
            return []
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(query, values)]
        except sqlite3.Error as err:
            raise RegistryError(f"{self.path}: the index cannot be read: {err}. Run `factory models reindex`.") from err

    def _state(self) -> str:
        """Names, sizes and times of the manifests; empty for no manifests."""
        stats = [(path.name, path.stat()) for path in sorted(self.manifests.glob("*.json"))]
        return json.dumps([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]) if stats else ""

    def _indexed_state(self) -> str:
        if not self.path.exists():
            return ""
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                row = connection.execute("SELECT manifests FROM state").fetchone()
        except sqlite3.Error:
            # Not an index any more (torn, or another file): it is only an index, so it is built again.
            return "unreadable"
        return row[0] if row else "unreadable"


def _model_row(record: ModelRecord) -> tuple[Any, ...]:
    metric = record.primary
    return (
        record.id, record.name, record.version, record.domain, record.config.get("recipe"), record.base.get("ref"), record.stage,
        metric.get("name"), metric.get("value"), record.seed, record.created, record.run, record.licence,
    )  # fmt: skip


def _lineage_rows(record: ModelRecord) -> list[tuple[Any, ...]]:
    return [(record.id, position, step.name, step.kind, step.fingerprint) for position, step in enumerate(record.lineage)]
