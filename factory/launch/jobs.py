"""What was submitted from here: one record per job under FACTORY_HOME/jobs, so that it can be listed, read, cancelled and queued again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from factory.errors import RegistryError, near_miss
from factory.registry.files import read_json, write_json
from factory.registry.home import Home

FILE_NAME = "job.json"


@dataclass(frozen=True)
class JobRecord:
    """One submitted job."""

    name: str
    cluster: str
    number: str
    """The job system's own id."""
    command: tuple[str, ...]
    script: str
    """Path of the script or manifest."""
    submitted: str = ""
    env: tuple[str, ...] = field(default=())
    """Names of the variables passed on."""


def folder_of(home: Home, name: str) -> Path:
    """Where a job's script, record and logs lie."""
    return home.root / "jobs" / name


def record(home: Home, job: JobRecord) -> None:
    """Write the record."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    folder = folder_of(home, job.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE_NAME, asdict(job) | {"submitted": job.submitted or now})


def records(home: Home) -> list[JobRecord]:
    """All jobs submitted from this home, the newest last; a damaged record is passed over."""
    found = []
    for path in (home.root / "jobs").glob(f"*/{FILE_NAME}"):
        try:
            row = read_json(path)
            found.append(JobRecord(**{**row, "command": tuple(row["command"]), "env": tuple(row.get("env", ()))}))
        except (RegistryError, TypeError, KeyError):
            continue
    return sorted(found, key=lambda job: (job.submitted, job.name))


def find(home: Home, name: str) -> JobRecord:
    """One job by name or number. Raises RegistryError with a near miss."""
    known = records(home)
    hits = [job for job in known if name in (job.name, job.number)]
    if not hits:
        names: Sequence[str] = [job.name for job in known]
        raise RegistryError(f"no job '{name}' was submitted from {home.root}.{near_miss(name, names)} See `factory jobs list`.")
    return hits[-1]


def logs(home: Home, job: JobRecord) -> list[Path]:
    """The job's log files, the oldest first."""
    return sorted(folder_of(home, job.name).glob("*.log"), key=lambda path: (path.stat().st_mtime, path.name))
