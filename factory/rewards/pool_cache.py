"""Verdicts kept on disk: the same verifier, version, completion and sample are judged once, also after a restart.

One SQLite file per folder. Only verdicts that say something about the completion are kept, never `error` or `timeout`.
A damaged file is set aside and begun anew; a cache that cannot be written is reported once and then does without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from pathlib import Path

from factory.contracts import Sample, Verdict
from factory.rewards.pool_wire import verdict_from_json, verdict_to_json

_LOG = logging.getLogger(__name__)
FILE_NAME = "verdicts.sqlite"
_FLUSH_ROWS = 256


def sample_hash(sample: Sample) -> str:
    """SHA-256 of all that a verifier can see of a sample; images by content, not by path. Raises DataError: unreadable image."""
    row = sample.to_json() | {"media": [[media.kind, media.sha256()] for media in sample.media]}
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode("ascii")).hexdigest()


def cache_key(pack: str, verifier: str, version: str, completion: str, hash_of_sample: str) -> str:
    """Key of one verdict. JSON keeps the fields apart, so that no two different calls share a key."""
    fields = json.dumps([pack, verifier, version, hash_of_sample, completion])
    return hashlib.sha256(fields.encode("ascii")).hexdigest()


class VerdictCache:
    """A folder's verdicts. Safe for several threads, and for several processes on one machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._fresh: dict[str, str] = {}
        self._is_broken = False
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as err:
            aside = self._path.with_suffix(".damaged")
            self._path.replace(aside)
            _LOG.warning("%s is damaged (%s); set aside as %s, and begun anew", self._path, err, aside.name)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=5.0, check_same_thread=False)
        try:
            # Losing the newest verdicts in a power cut costs only their recomputation.
            database.execute("PRAGMA synchronous=OFF")
            database.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL) WITHOUT ROWID")
            database.commit()
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under this key, or None."""
        with self._lock:
            text = self._fresh.get(key)
            if text is None and not self._is_broken:
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
        except (ValueError, KeyError, TypeError) as err:
            _LOG.warning("%s: unreadable verdict %s (%s); it is judged again", self._path, key[:12], err)
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict, unless it is `error` or `timeout`."""
        if verdict.status.is_masked:
            return
        with self._lock:
            self._fresh[key] = json.dumps(verdict_to_json(verdict))
            if len(self._fresh) >= _FLUSH_ROWS:
                self._flush()

    def flush(self) -> None:
        """Write what is new to disk."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Write and close."""
        with self._lock:
            self._flush()
            self._db.close()
            self._is_broken = True

    def _flush(self) -> None:
        if self._is_broken or not self._fresh:
            return
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", list(self._fresh.items()))
        except sqlite3.DatabaseError as err:
            self._give_up(err)
        self._fresh.clear()

    def _give_up(self, err: sqlite3.DatabaseError) -> None:
        self._is_broken = True
        _LOG.warning("%s cannot be used (%s); verdicts are no longer cached in this run", self._path, err)
