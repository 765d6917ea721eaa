"""SQLite index of the manifests. It holds nothing of its own: missing, damaged or old, it is built again.

Every query looks whether the manifests are still those that were indexed, by name, size and time; a new index takes over the
rows of those that are. So a query costs one look at each name, and a registration one reading, however many models there are.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.registry.records import ModelRecord, read_record
from factory.registry.relatives import Relatives, kin_keys, relatives_of

log = logging.getLogger(__name__)
_TABLES = """
CREATE TABLE models (
    id TEXT PRIMARY KEY, name TEXT, version INTEGER, domain TEXT, recipe TEXT, base TEXT, stage TEXT, metric TEXT, value REAL,
    seed INTEGER, created TEXT, run TEXT, licence TEXT);
CREATE TABLE lineage (model TEXT, position INTEGER, step TEXT, kind TEXT, fingerprint TEXT, PRIMARY KEY (model, position));
CREATE TABLE manifests (file TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER);
CREATE TABLE kin (model TEXT, kind TEXT, key TEXT, PRIMARY KEY (model, kind, key)) WITHOUT ROWID;
CREATE INDEX lineage_fingerprint ON lineage (fingerprint);
CREATE INDEX kin_key ON kin (kind, key);
"""
State = Mapping[str, tuple[int, int]]
"""File name of a manifest -> (size in bytes, time of its last change in ns)."""


class Index:
    """One index file over one folder of manifests."""

    def __init__(self, path: Path, manifests: Path) -> None:
        self.path = path
        self.manifests = manifests

    def rebuild(self) -> int:
        """Write a new index from all manifests and put it in the old one's place. Returns the number of models.

        Raises:
            RegistryError: a manifest cannot be read.
        """
        state = self._state()
        self._swap(state, None)
        return len(state)

    def refresh(self) -> None:
        """Bring the index up to the manifests there are; only those that changed are read.

        Raises:
            RegistryError: a manifest cannot be read.
        """
        self._follow(self._state())

    def _follow(self, state: State) -> None:
        indexed = self._indexed_state()
        if indexed != state:
            self._swap(state, indexed)

    def _swap(self, state: State, indexed: State | None) -> None:
        """Write an index of `state` beside the old one and swap them; `indexed` is what the old one holds, None when it is no use."""
        fresh = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if indexed is not None and self.path.exists():
                # The old one may be replaced meanwhile by another process: then this copy is of the newer one, which `_fill` sees.
                shutil.copyfile(self.path, fresh)
            with closing(sqlite3.connect(fresh)) as connection:
                self._fill(connection, state)
            fresh.replace(self.path)
        except (OSError, sqlite3.Error) as err:
            raise RegistryError(f"{self.path}: the index cannot be written: {err}. Check the disk and the permissions.") from err
        finally:
            fresh.unlink(missing_ok=True)

    def _fill(self, connection: sqlite3.Connection, state: State) -> None:
        """Make the tables hold exactly the manifests of `state`; rows of unchanged ones stay.

        The state was taken before anything is read: a manifest written meanwhile makes the index count as old.
        """
        with connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'manifests'").fetchone():
                connection.executescript(_TABLES)
            known = _manifests_in(connection)
            gone = [(name,) for name in known if state.get(name) != known[name]]
            connection.executemany("DELETE FROM manifests WHERE file = ?", gone)
            ids = [(name.removesuffix(".json"),) for (name,) in gone]
            connection.executemany("DELETE FROM models WHERE id = ?", ids)
            connection.executemany("DELETE FROM lineage WHERE model = ?", ids)
            connection.executemany("DELETE FROM kin WHERE model = ?", ids)
            fresh = [name for name in state if known.get(name) != state[name]]
            for record in self._records(fresh):
                connection.execute(f"INSERT INTO models VALUES ({','.join('?' * 13)})", _model_row(record))
                connection.executemany("INSERT INTO lineage VALUES (?,?,?,?,?)", _lineage_rows(record))
                connection.executemany("INSERT INTO kin VALUES (?,?,?)", _kin_rows(record))
            connection.executemany("INSERT INTO manifests VALUES (?,?,?)", [(name, *state[name]) for name in fresh])

    def _records(self, names: Iterable[str]) -> list[ModelRecord]:
        """Of these manifests; one that another process removes meanwhile is left out."""
        records = []
        for name in sorted(names):
            path = self.manifests / name
            try:
                records.append(read_record(path))
            except RegistryError as err:
                if path.exists():
                    raise RegistryError(f"{err} `factory models repair` moves it aside.") from err
        return records

    def holds_the_truth(self) -> bool:
        """Whether the index holds exactly the models of the manifests.

        Raises:
            RegistryError: a manifest cannot be read.
        """
        state = self._state()
        records = self._records(state)
        wanted = [_model_row(record) for record in records]
        steps = sorted(row for record in records for row in _lineage_rows(record))
        keys = sorted(row for record in records for row in _kin_rows(record))
        if not self.path.exists():
            return not wanted
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                models = connection.execute("SELECT * FROM models ORDER BY id").fetchall()
                lineage = connection.execute("SELECT * FROM lineage ORDER BY model, position").fetchall()
                kin = connection.execute("SELECT * FROM kin ORDER BY model, kind, key").fetchall()
        except sqlite3.Error:
            return False
        is_whole = models == sorted(wanted, key=lambda row: row[0]) and lineage == steps and kin == keys
        return is_whole and self._indexed_state() == state

    def rows(self, domain: str | None = None) -> list[dict[str, Any]]:
        """Models, newest first, as plain rows."""
        return self._select("SELECT * FROM models WHERE ? IS NULL OR domain = ? ORDER BY created DESC, id", (domain, domain))

    def built_from(self, fingerprint: str) -> list[str]:
        """Ids of the models whose lineage holds a step with this fingerprint."""
        return [
            row["model"]
            for row in self._select("SELECT DISTINCT model FROM lineage WHERE fingerprint = ? ORDER BY model", (fingerprint,))
        ]

    def relatives(self, record: ModelRecord) -> Relatives:
        """All kin of a model; no other manifest is read."""
        with self._open() as connection:
            return relatives_of(record, _KinTable(connection))

    def _select(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        with self._open() as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection to an index that follows the manifests, for reading."""
        try:
            with closing(self._connect(self._state())) as connection:
                yield connection
        except sqlite3.Error as err:
            raise RegistryError(f"{self.path}: the index cannot be read: {err}. Run `factory models reindex`.") from err

    def _connect(self, state: State) -> sqlite3.Connection:
        """To the file; in memory where it cannot be written, and where there is no model to write one for."""
        if state:
            try:
                self._follow(state)
                return sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            except (RegistryError, sqlite3.Error) as err:
                # A disk that may only be read still has its manifests, and those are the truth.
                log.debug("%s: read from the manifests: %s", self.path, err)
        connection = sqlite3.connect(":memory:")
        try:
            self._fill(connection, state)
        except BaseException:
            connection.close()
            raise
        return connection

    def _state(self) -> State:
        """Names, sizes and times of the manifests there are."""
        found: dict[str, tuple[int, int]] = {}
        try:
            with os.scandir(self.manifests) as entries:
                for entry in entries:
                    if entry.name.endswith(".json"):
                        try:
                            stat = entry.stat()
                        except FileNotFoundError:  # removed by another process a moment ago
                            continue
                        found[entry.name] = (stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:
            return {}
        return found

    def _indexed_state(self) -> State | None:
        """The manifests that the index holds; None when it is torn, of an older form, or another file."""
        if not self.path.exists():
            return None
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("SELECT 1 FROM kin LIMIT 1")  # the youngest table
                return _manifests_in(connection)
        except sqlite3.Error:
            return None


class _KinTable:
    """The table `kin` as a KeyTable (factory.registry.relatives)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def holders(self, kind: str, keys: Collection[str]) -> list[tuple[str, str]]:
        wanted = json.dumps(sorted(keys))
        query = "SELECT model, key FROM kin WHERE kind = ? AND key IN (SELECT value FROM json_each(?)) ORDER BY model, key"
        return self._connection.execute(query, (kind, wanted)).fetchall()

    def of(self, model: str, kind: str) -> list[str]:
        return [key for (key,) in self._connection.execute("SELECT key FROM kin WHERE model = ? AND kind = ?", (model, kind))]


def _manifests_in(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    return {name: (size, time) for name, size, time in connection.execute("SELECT file, bytes, mtime_ns FROM manifests")}


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


def _kin_rows(record: ModelRecord) -> list[tuple[str, str, str]]:
    return [(record.id, kind, key) for kind, key in sorted(kin_keys(record))]
