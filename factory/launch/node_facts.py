"""What a node of a job finds out about itself: GPUs, driver, NCCL, memory, disk, versions. Plain data; nothing heavy is imported."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import factory
from factory.launch.devices import available_memory, num_gpus

PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "peft")
DRIVER_FILE = Path("/proc/driver/nvidia/version")


def node_facts(home: Path) -> dict[str, Any]:
    """This node's facts as JSON can hold them.

    `gpus` (count), `gpu_names`, `driver`, `nccl`, `memory` and `disk` (free bytes; None when it cannot be read), `versions`, `host`.
    """
    gpus = num_gpus()
    names, driver = _cards() if gpus else ([], "")
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return {
        "host": socket.gethostname(), "gpus": gpus, "gpu_names": names, "driver": driver or _driver(), "nccl": _nccl(),
        "memory": available_memory(), "disk": shutil.disk_usage(existing).free, "versions": _versions(),
        "home": str(home), "user": os.getuid(),
    }  # fmt: skip


def _versions() -> dict[str, str]:
    found = {"factory": factory.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _nccl() -> str:
    """The version of the NCCL that pip installed beside torch; empty when torch brings its own or has none."""
    for package in distributions():
        if re.fullmatch(r"nvidia[-_]nccl[-_]cu\d+", package.name or ""):
            return package.version
    return ""


def _driver() -> str:
    if not DRIVER_FILE.is_file():
        return ""
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", DRIVER_FILE.read_text(encoding="utf-8", errors="replace"))
    return found.group(1) if found else ""


def _cards() -> tuple[list[str], str]:
    """(names of the GPUs, driver) as nvidia-smi tells them; nothing without it."""
    if shutil.which("nvidia-smi") is None:
        return [], ""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return [], ""
    rows = [line.rpartition(",") for line in told.stdout.splitlines() if "," in line] if told.returncode == 0 else []
    return [name.strip() for name, _, _ in rows], rows[0][2].strip() if rows else ""
