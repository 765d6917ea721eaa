"""SQLite index of the manifests. It holds nothing of its own: missing, damaged or old, it is built again."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.registry.records import ModelRecord, read_record

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
        # The state is taken first: a manifest written meanwhile makes the new index count as old.
        state, records = self._state(), self._records()
        fresh = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(fresh)) as connection:
                _fill(connection, records, state)
            fresh.replace(self.path)
        except (OSError, sqlite3.Error) as err:
            raise RegistryError(f"{self.path}: the index cannot be written: {err}. Check the disk and the permissions.") from err
        finally:
            fresh.unlink(missing_ok=True)
        return len(records)

    def _records(self) -> list[ModelRecord]:
        """Of all manifests; one that another process removes meanwhile is left out."""
        records = []
        for path in sorted(self.manifests.glob("*.json")):
            try:
                records.append(read_record(path))
            except RegistryError as err:
                if path.exists():
                    raise RegistryError(f"{err} `factory models repair` moves it aside.") from err
        return records

    def refresh(self) -> None:
        """Rebuild when the manifests are not those that were indexed."""
        if self._indexed_state() != self._state():
            self.rebuild()

    def holds_the_truth(self) -> bool:
        """Whether the index holds exactly the models of the manifests.

        Raises:
            RegistryError: a manifest cannot be read.
        """
        records = self._records()
        wanted = [_model_row(record) for record in records]
        steps = sorted(row for record in records for row in _lineage_rows(record))
        if not self.path.exists():
            return not wanted
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                models = connection.execute("SELECT * FROM models ORDER BY id").fetchall()
                lineage = connection.execute("SELECT * FROM lineage ORDER BY model, position").fetchall()
        except sqlite3.Error:
            return False
        return models == sorted(wanted, key=lambda row: row[0]) and lineage == steps and self._indexed_state() == self._state()

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
        state = self._state()
        if not state:
            return []
        try:
            self.refresh()
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        except (RegistryError, sqlite3.Error) as err:
            # A disk that may only be read still has its manifests, and those are the truth.
            connection = sqlite3.connect(":memory:")
            try:
                _fill(connection, self._records(), state)
            except sqlite3.Error:
                connection.close()
                raise RegistryError(f"{self.path}: the index cannot be read: {err}. Run `factory models reindex`.") from err
            except RegistryError:
                connection.close()
                raise
        try:
            with closing(connection):
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(query, values)]
        except sqlite3.Error as err:
            raise RegistryError(f"{self.path}: the index cannot be read: {err}. Run `factory models reindex`.") from err

    def _state(self) -> str:
        """Names, sizes and times of the manifests; empty for no manifests."""
        rows = []
        for path in sorted(self.manifests.glob("*.json")):
            try:
                stat = path.stat()
            except FileNotFoundError:  # removed by another process a moment ago
                continue
            rows.append([path.name, stat.st_size, stat.st_mtime_ns])
        return json.dumps(rows) if rows else ""

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


def _fill(connection: sqlite3.Connection, records: Sequence[ModelRecord], state: str) -> None:
    with connection:
        connection.executescript(_TABLES)
        connection.executemany(f"INSERT INTO models VALUES ({','.join('?' * 13)})", [_model_row(record) for record in records])
        connection.executemany(
            "INSERT INTO lineage VALUES (?,?,?,?,?)", [row for record in records for row in _lineage_rows(record)]
        )
        connection.execute("INSERT INTO state VALUES (?)", (state,))


def _model_row(record: ModelRecord) -> tuple[Any, ...]:
    metric, recipe = record.primary, record.config.get("recipe")
    value = metric.get("value")
    return (
        record.id, record.name, record.version, record.domain,
        recipe if isinstance(recipe, str | None) else json.dumps(recipe),
        record.base.get("ref"), record.stage, metric.get("name"), None if value is None else float(value),
        record.seed, record.created, record.run, record.licence,
    )  # fmt: skip


def _lineage_rows(record: ModelRecord) -> list[tuple[Any, ...]]:
    return [(record.id, position, step.name, step.kind, step.fingerprint) for position, step in enumerate(record.lineage)]
