"""A run's folder: the lock that one conductor holds, and steps that are either complete or partial, never in between.

stages/02-cpt.partial/   being written, or left by a kill (checkpoints inside resume); job.json names its fingerprint
stages/02-cpt/           complete; stage.lock holds inputs, parameters and outputs, each hashed, and a hash of itself
stages/stale/…           complete, but of other settings; put back when those settings return
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.pipeline.fingerprint import changed_parts
from factory.registry.files import FileEntry, read_json, rename_folder, sha256_file, sync_folder, tree_hash, walk, write_json
from factory.registry.seal import sealed, unsealed

LOCK_FILE, STAGE_LOCK, JOB, OUTPUTS, ERROR, USAGE = ".lock", "stage.lock", "job.json", "outputs.json", "error.json", "usage.json"
CHECKPOINTS = "checkpoints"
LEFTOVERS = (OUTPUTS, JOB, ERROR, USAGE)
"""Files that are of no use once a step is finished."""
UNHASHED = (STAGE_LOCK, "log.txt", "metrics.jsonl")
"""Files of a finished step that hold times, so that two equal steps differ in them."""
ALWAYS_HASHED = 1 << 20
"""Bytes up to which a finished file is hashed at every look: figures and settings, where one bit changes a result."""
LOCK_WAIT_S = 5.0
"""A worker whose conductor was killed needs a moment to die and let go of the lock."""


@dataclass(frozen=True)
class State:
    """Whether a step's outputs may be kept."""

    is_cached: bool
    why: str
    """`finished`, or why it has to run."""


class RunFolder:
    """One run on disk. Reading creates nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = root / "stages"

    def final(self, step: str) -> Path:
        """Where a finished step lies."""
        return self.stages / step

    def partial(self, step: str) -> Path:
        """Where a step is written."""
        return self.stages / f"{step}.partial"

    @contextmanager
    def locked(self, wait_s: float = LOCK_WAIT_S) -> Iterator[int]:
        """Hold the run for this process; yields the descriptor that workers inherit.

        The kernel drops the lock when the last holder is gone, so a kill -9 leaves no stale lock.

        Raises:
            RegistryError: another build holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(handle, wait_s)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield handle
        finally:
            os.close(handle)

    def _acquire(self, handle: int, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as err:
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                    raise RegistryError(
                        f"{self.root}: another build is writing this run (process {holder}). "
                        "Wait for it, stop it, or give this one --run NAME."
                    ) from err
                time.sleep(0.05)

    def read_lock(self, step: str) -> dict[str, Any] | None:
        """stage.lock of a finished step; None when there is none or it is damaged."""
        try:
            lock = read_json(self.final(step) / STAGE_LOCK)
        except RegistryError:
            return None
        lock = unsealed(lock) if isinstance(lock, dict) else None
        return lock if lock is not None and {"fingerprint", "parameters", "inputs", "outputs"} <= set(lock) else None

    def state(
        self, step: str, fingerprint: str, parameters: Mapping[str, Any], *, start_hash: str | None = None, is_deep: bool = False
    ) -> State:
        """May the finished step be kept?

        Args:
            start_hash: output hash of the step it starts from, where known; a step made from other weights is not kept.
            is_deep: hash every output again. Otherwise only small files are, and those whose time or size changed.
        """
        if not self.final(step).is_dir():
            return State(False, "resumes" if self._resumes(step, fingerprint) else "not run yet")
        lock = self.read_lock(step)
        if lock is None:
            return State(False, "stage.lock is missing or damaged")
        if lock["fingerprint"] != fingerprint:
            changed = changed_parts(lock["parameters"], parameters)
            return State(False, f"changed: {', '.join(changed[:4])}{' …' if len(changed) > 4 else ''}")
        if start_hash is not None and lock["inputs"].get("start_hash") != start_hash:
            return State(False, "the model it starts from is another one")
        damaged = damaged_outputs(self.final(step), lock, is_deep=is_deep)
        return State(False, f"damaged: {', '.join(damaged[:3])}") if damaged else State(True, "finished")

    def _resumes(self, step: str, fingerprint: str) -> bool:
        return self._partial_fingerprint(step) == fingerprint and (self.partial(step) / CHECKPOINTS).is_dir()

    def _partial_fingerprint(self, step: str) -> str | None:
        try:
            return read_json(self.partial(step) / JOB).get("fingerprint")
        except (RegistryError, AttributeError):
            return None

    def begin(self, step: str, job: Mapping[str, Any], *, may_resume: bool) -> Path:
        """The partial folder for a step with its job.json; one that cannot be resumed is emptied first."""
        folder = self.partial(step)
        # Without a checkpoint there is nothing to resume, only rows that would be written twice.
        if folder.exists() and not (may_resume and self._resumes(step, str(job["fingerprint"]))):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in (OUTPUTS, ERROR, USAGE, STAGE_LOCK):
            (folder / leftover).unlink(missing_ok=True)
        for torn in list(folder.rglob(".*.tmp")):  # of an atomic write that was killed; it must not count as an output
            torn.unlink()
        write_json(folder / JOB, job)
        return folder

    def finish(
        self, step: str, fingerprint: str, parameters: Mapping[str, Any], inputs: Mapping[str, Any], seconds: float
    ) -> dict[str, Any]:
        """Hash the outputs, write stage.lock, and give the folder its final name. Returns the lock's content."""
        folder = self.partial(step)
        outputs = read_json(folder / OUTPUTS)
        usage = read_json(folder / USAGE) if (folder / USAGE).is_file() else {}
        lock = {
            "step": step, "fingerprint": fingerprint, "parameters": dict(parameters), "inputs": dict(inputs),
            "seconds": round(seconds, 3), "usage": usage,
            "outputs": {**outputs, **hash_outputs(folder, outputs.get("model"))},
        }  # fmt: skip
        write_json(folder / STAGE_LOCK, sealed(lock))
        self.set_aside(step)
        rename_folder(folder, self.final(step))
        self.tidy(step)
        return lock

    def tidy(self, step: str) -> None:
        """Remove what only a half done step needs. It goes after the rename: a kill before that resumes from its checkpoints."""
        for leftover in LEFTOVERS:
            (self.final(step) / leftover).unlink(missing_ok=True)
        if (self.final(step) / CHECKPOINTS).exists():
            shutil.rmtree(self.final(step) / CHECKPOINTS)

    def set_aside(self, step: str) -> None:
        """Move a finished step of other settings (or a damaged one) out of the way; nothing when there is none."""
        folder = self.final(step)
        if not folder.exists():
            return
        lock = self.read_lock(step)
        if lock is None or damaged_outputs(folder, lock):
            shutil.rmtree(folder)
            return
        place = self._stale(step, lock["fingerprint"])
        if place.exists():
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)
        sync_folder(folder.parent)

    def put_back(self, step: str, fingerprint: str) -> None:
        """When these settings were finished before and set aside, make them the finished step again."""
        place, lock = self._stale(step, fingerprint), self.read_lock(step)
        if place.is_dir() and (lock is None or lock["fingerprint"] != fingerprint):
            self.set_aside(step)
            place.rename(self.final(step))
            sync_folder(self.stages)

    def _stale(self, step: str, fingerprint: str) -> Path:
        return self.stages / "stale" / f"{step}-{fingerprint[:16]}"

    def finished(self) -> list[str]:
        """Names of all finished steps, also of steps that the recipe no longer has."""
        return sorted(path.name for path in self.stages.glob("[0-9][0-9]-*") if path.is_dir() and path.suffix != ".partial")


def hash_outputs(folder: Path, model: str | None) -> dict[str, Any]:
    """`files` ({path: sha256, bytes, mtime_ns}), `hash` over all of them, `model_hash` over those of the model."""
    files, model_files = {}, []
    entries = []
    for name in walk(folder):
        if name in UNHASHED or name in LEFTOVERS or name.startswith(f"{CHECKPOINTS}/"):
            continue
        path = folder / name
        stat, digest = path.stat(), sha256_file(path)
        files[name] = {"sha256": digest, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        entries.append(FileEntry(name, digest, stat.st_size))
        if model is not None and name.startswith(f"{model}/"):
            model_files.append(FileEntry(name[len(model) + 1 :], digest, stat.st_size))
    return {"files": files, "hash": tree_hash(entries), "model_hash": tree_hash(model_files) if model is not None else None}


def damaged_outputs(folder: Path, lock: Mapping[str, Any], *, is_deep: bool = False) -> list[str]:
    """Output files that are missing or no longer what they were."""
    damaged = []
    for name, known in lock["outputs"]["files"].items():
        path = folder / name
        if not path.is_file():
            damaged.append(name)
            continue
        stat = path.stat()
        is_read = is_deep or stat.st_mtime_ns != known["mtime_ns"] or stat.st_size <= ALWAYS_HASHED
        if stat.st_size != known["bytes"] or (is_read and sha256_file(path) != known["sha256"]):
            damaged.append(name)
    return damaged
