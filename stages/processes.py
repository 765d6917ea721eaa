"""How the processes of a Learner find each other: accelerate with one process, DDP, DeepSpeed ZeRO, or none of them under FSDP2."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DeepSpeedPlugin, DistributedDataParallelKwargs

from factory.config.schema import OptimConfig
from factory.stages.deepspeed_config import complete, read_config


def make_accelerator(
    zero_stage: int, precision: str, optim: OptimConfig, *, fsdp: bool = False, template: str = "", nvme_path: str = ""
) -> Accelerator:
    """The accelerator of this process: DeepSpeed for `zero_stage` 1-3 (by a template, see deepspeed_config.py), else DDP (or alone).

    The Learner does mixed precision and gradient accumulation itself, so accelerate is told of neither.
    """
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        # accelerate imports DeepSpeed also without ZeRO (unwrap_model), which warns when nobody told it that there is no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if fsdp:
        # The model is split by fully_sharded.py; accelerate only says which process this is.
        _be_a_group_of_one()
        PartialState(cpu=on_cpu)
        return Accelerator(cpu=on_cpu, mixed_precision="no")
    if zero_stage < 1:
        # Text-only rows leave a vision tower without gradient, which plain DDP takes for an error.
        ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
        return Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[ddp])
    _be_a_group_of_one()
    if on_cpu:
        # Accelerator(cpu=True) would quietly take DDP instead of DeepSpeed, and cpu=False no process group at all:
        # so make the gloo group first and let the Accelerator find it. A build's environment says the same as cpu=True would.
        PartialState(cpu=True)
        os.environ.pop("ACCELERATE_USE_CPU", None)
    return Accelerator(
        deepspeed_plugin=deepspeed_plugin(zero_stage, optim, template, nvme_path),
        mixed_precision="bf16" if precision == "bf16" else "no",
    )


def deepspeed_plugin(zero_stage: int, optim: OptimConfig, template: str = "", nvme_path: str = "") -> DeepSpeedPlugin:
    """accelerate's plugin for ZeRO `zero_stage` (1-3). Raises ConfigError for a template that does not fit."""
    config = complete(
        read_config(template, zero_stage, nvme_path=nvme_path), clip_norm=optim.clip_norm, has_gpu=torch.cuda.is_available()
    )
    return DeepSpeedPlugin(hf_ds_config=config)


def _be_a_group_of_one() -> None:
    """DeepSpeed and FSDP2 want a process group even for one process; describe one unless torchrun or srun already did."""
    if "LOCAL_RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(alone)


def sum_maps(maps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Key-wise sums, in the order of `maps` so that every rank rounds alike."""
    sums: dict[str, float] = {}
    for figures in maps:
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums
