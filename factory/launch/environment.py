"""The environment of worker processes: one OpenMP thread each, no network unless asked, CPU back ends where there is no GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import factory

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
NO_TELEMETRY = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}
RECORDED = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "PYTHONHASHSEED", *OFFLINE)
"""What run.json keeps of the environment. Nothing that names the machine or the user."""


def worker_env(base: Mapping[str, str], *, threads: int, online: bool, num_gpus: int) -> dict[str, str]:
    """Environment for one worker.

    Args:
        base: the conductor's own environment; it is kept where nothing below overrides it.
        threads: OpenMP threads per process; more than one is often slower on shared machines (docs: guides/feasibility 0).
        online: leave the hub reachable.
        num_gpus: 0 selects the CPU back end of DeepSpeed and accelerate.
    """
    env = dict(base) | NO_TELEMETRY
    env |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    # A fixed hash seed: the order of a set must not decide which tokens merge first.
    env |= {
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    if not online:
        env |= OFFLINE
    if num_gpus == 0:
        env |= {"DS_ACCELERATOR": "cpu", "ACCELERATE_USE_CPU": "true"}
    root = Path(factory.__file__).absolute().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        # A checkout that is not installed: workers must import the same factory from any folder.
        env["PYTHONPATH"] = ":".join([str(root), *filter(None, [base.get("PYTHONPATH", "")])])
    return env
