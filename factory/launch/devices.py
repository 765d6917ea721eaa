"""What this machine can compute on, found without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path


def num_gpus(env: Mapping[str, str] | None = None, device_folder: Path = Path("/dev")) -> int:
    """GPUs that a worker would see: NVIDIA device files, limited by CUDA_VISIBLE_DEVICES."""
    env = os.environ if env is None else env
    present = sum(1 for path in device_folder.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    named = [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    return min(present, len(named))


def quiet_without_gpu() -> None:
    """Tell DeepSpeed that there is no GPU, before transformers or accelerate imports it and it warns about that."""
    if not num_gpus():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def available_memory() -> int | None:
    """Bytes this process may still take: the system's available memory, or what the cgroup leaves when that is less."""
    free: list[int] = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdecimal():
        free.append(int(text) - int(used.read_text()))
    return min(free, default=None)
