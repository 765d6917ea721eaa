"""run.json: how a run was made, without naming the machine or the user."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import factory
from factory.errors import RegistryError
from factory.launch.environment import RECORDED
from factory.pipeline.folder import RunFolder
from factory.pipeline.plan import BuildPlan
from factory.redaction import redact
from factory.registry.files import read_json, write_json

GIT_TIMEOUT_S = 5.0


def now() -> str:
    """UTC time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def factory_commit() -> dict[str, Any] | None:
    """Commit of the factory's own checkout, and whether files differ from it; None when it is installed from a wheel."""
    root = Path(factory.__file__).absolute().parent.parent
    try:
        # A virtual environment may lie inside somebody else's repository: ask whether *our* file is tracked.
        tracked = _git(root, "ls-files", "factory/contracts.py")
        if not tracked:
            return None
        return {
            "commit": _git(root, "rev-parse", "HEAD"),
            "is_dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    return done.stdout.strip()


def command_line(arguments: Sequence[str]) -> str:
    """The command as a person would type it, without secrets; the path of the program is left out."""
    return shlex.join(["factory", *map(redact, arguments[1:])])


def start_record(plan: BuildPlan, env: Mapping[str, str], arguments: Sequence[str] = ()) -> dict[str, Any]:
    """The record of a session that begins now; earlier sessions of the same run are kept."""
    path = plan.folder.root / "run.json"
    before: dict[str, Any] = {}
    if path.is_file():
        try:
            before = read_json(path)
        except RegistryError:
            before = {}
    record = {
        "run": plan.run, "command": command_line(arguments or sys.argv), "domain": plan.config.domain,
        "recipe": plan.config.recipe,
        "seed": plan.config.seed, "versions": {"factory": factory.__version__, **plan.versions},
        "python": platform.python_version(),
        "platform": {
            "system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count(), "device": plan.device.name,
        },
        "environment": {name: env[name] for name in RECORDED if name in env}, "git": factory_commit(),
        "started": before.get("started", now()), "ended": None, "status": "running",
        "sessions": [*before.get("sessions", []), {"started": now(), "ended": None, "status": "running"}],
    }  # fmt: skip
    write_json(path, record)
    return record


def end_record(folder: RunFolder, record: dict[str, Any], status: str) -> None:
    """Note how the session ended: `finished`, `interrupted` or `failed: <error type>`."""
    record["ended"] = record["sessions"][-1]["ended"] = now()
    record["status"] = record["sessions"][-1]["status"] = status
    write_json(folder.root / "run.json", record)
