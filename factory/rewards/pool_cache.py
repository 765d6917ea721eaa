"""Verdicts kept on disk: the same verifier, version, code, completion and sample are judged once, also after a restart.

One SQLite file per folder, for all packs and runs of a machine. Only verdicts that say something about the completion are kept,
never `error` or `timeout`. It is bounded: above its size the oldest fifth goes. A damaged file is set aside and begun anew; a
cache that cannot be used (locked for long, read-only, disk full) is reported once and then does without: it only saves time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import threading
from pathlib import Path

from factory.contracts import Sample, Verdict
from factory.rewards.pool_wire import verdict_from_json, verdict_to_json

_LOG = logging.getLogger(__name__)
FILE_NAME = "verdicts.sqlite"
DEFAULT_MIB = 256
_FLUSH_ROWS = 256
_SCHEMA = 2
_EVICTED = 5
"""One in so many rows goes when the file is full."""


def default_folder() -> Path:
    """FACTORY_HOME/cache/verdicts."""
    named = os.environ.get("FACTORY_HOME")
    home = Path(named).expanduser().absolute() if named else Path.home() / ".factory"
    return home / "cache" / "verdicts"


def sample_hash(sample: Sample) -> str:
    """SHA-256 of all that a verifier can see of a sample; images by content, not by path. Raises DataError: unreadable image."""
    row = sample.to_json() | {"media": [[media.kind, media.sha256()] for media in sample.media]}
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode("ascii")).hexdigest()


def cache_key(pack: str, verifier: str, version: str, completion: str, hash_of_sample: str, code: str = "") -> str:
    """Key of one verdict. JSON keeps the fields apart, so that no two different calls share a key."""
    fields = json.dumps([pack, verifier, version, hash_of_sample, completion, code])
    return hashlib.sha256(fields.encode("ascii")).hexdigest()


class VerdictCache:
    """A folder's verdicts. Safe for several threads, and for several processes on one machine.

    Args:
        folder: made when it is missing.
        max_mib: bound of the file's size, to within one flush.
    """

    def __init__(self, folder: Path, *, max_mib: int = DEFAULT_MIB) -> None:
        self._path = folder / FILE_NAME
        self._max_bytes = max_mib << 20
        self._lock = threading.Lock()
        self._fresh: dict[str, str] = {}
        self._db: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except (sqlite3.OperationalError, OSError) as err:
            self._give_up(err)
        except sqlite3.DatabaseError as err:
            self._set_aside(err)

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=10.0, check_same_thread=False)
        try:
            # Losing the newest verdicts in a power cut costs only their recomputation.
            database.execute("PRAGMA synchronous=OFF")
            if database.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
                with database:
                    database.execute("BEGIN IMMEDIATE")  # another process may be about the same
                    if database.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
                        database.execute("DROP TABLE IF EXISTS verdicts")
                        database.execute(
                            "CREATE TABLE verdicts (at INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, verdict TEXT NOT NULL)"
                        )
                        database.execute(f"PRAGMA user_version={_SCHEMA}")
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _set_aside(self, err: Exception) -> None:
        aside = self._path.with_suffix(".damaged")
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            self._path.replace(aside)
        _LOG.warning("%s is damaged (%s); set aside as %s, and begun anew", self._path, err, aside.name)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as second:
            self._give_up(second)

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under this key, or None."""
        with self._lock:
            text = self._fresh.get(key)
            if text is None and self._db is not None:
                try:
                    row = self._db.execute("SELECT verdict FROM verdicts WHERE key = ?", (key,)).fetchone()
                except sqlite3.DatabaseError as err:
                    self._give_up(err)
                    row = None
                text = row[0] if row else None
        if text is None:
            return None
        try:
            return verdict_from_json(json.loads(text))
        except (ValueError, TypeError, RecursionError) as err:
            _LOG.warning("%s: unreadable verdict %s (%s); it is judged again", self._path, key[:12], err)
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict, unless it is `error` or `timeout`."""
        if verdict.status.is_masked:
            return
        with self._lock:
            if self._db is None:
                return
            self._fresh[key] = json.dumps(verdict_to_json(verdict))
            if len(self._fresh) >= _FLUSH_ROWS:
                self._flush()

    def flush(self) -> None:
        """Write what is new to disk."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Write and close. Idempotent."""
        with self._lock:
            self._flush()
            if self._db is not None:
                self._db.close()
                self._db = None

    def _flush(self) -> None:
        if self._db is None or not self._fresh:
            return
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO verdicts (key, verdict) VALUES (?, ?)", list(self._fresh.items()))
                while self._used_bytes() > self._max_bytes and self._evict():
                    pass
        except sqlite3.DatabaseError as err:
            self._give_up(err)
        self._fresh.clear()

    def _used_bytes(self) -> int:
        assert self._db is not None
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _evict(self) -> bool:
        """Delete the oldest rows; their pages are used again, so that the file does not grow. False when there were none."""
        assert self._db is not None
        first, last = self._db.execute("SELECT min(at), max(at) FROM verdicts").fetchone()
        if first is None:
            return False
        self._db.execute("DELETE FROM verdicts WHERE at <= ?", (first + (last - first) // _EVICTED,))
        return True

    def _give_up(self, err: Exception) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self._fresh.clear()
        _LOG.warning("%s cannot be used (%s); verdicts are not cached in this run", self._path, err)
