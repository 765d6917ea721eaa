"""`launch.deepspeed=auto`: the first DeepSpeed template whose memory fits the device, by the stages' own estimates. Pure but for nvidia-smi."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from factory.config.compose import Composed
from factory.config.schema import AdapterConfig, LaunchConfig, TrainStageConfig
from factory.contracts import ModelFacts, StagePlan
from factory.errors import ConfigError
from factory.launch.devices import available_memory, num_gpus
from factory.stages.deepspeed_config import TEMPLATES, offloaded_bytes, read_config, stage_of
from factory.stages.models.facts import trainable_params

AUTO = "auto"
FILL = 0.9
"""Share of the device's memory that an estimate may fill; the rest is for the allocator's gaps."""


@dataclass(frozen=True)
class Tried:
    """One template and what the largest stage would need on a device."""

    template: str
    needed_bytes: int


def with_sharding(
    composed: Composed, facts: ModelFacts, plans: Callable[[Composed], Sequence[StagePlan]]
) -> tuple[Composed, tuple[str, ...]]:
    """The config with `auto` replaced by a template and its ZeRO stage, and notes that say why; unchanged without `auto`.

    Raises:
        ConfigError: no template fits, or a named template does not fit the ZeRO stage.
    """
    launch = composed.config.launch
    if launch.fsdp and (launch.zero_stage >= 1 or launch.deepspeed):
        raise ConfigError(
            "launch.fsdp=true splits the model without DeepSpeed. Set launch.zero_stage=-1 and launch.deepspeed= (empty), or launch.fsdp=false."
        )
    if launch.deepspeed != AUTO:
        if launch.deepspeed and launch.zero_stage < 1:
            raise ConfigError(
                f"launch.deepspeed={launch.deepspeed} needs launch.zero_stage=1, 2 or 3 (now {launch.zero_stage}), or use auto."
            )
        if launch.zero_stage >= 1:
            read_config(launch.deepspeed, launch.zero_stage, nvme_path=launch.nvme_path)
        return composed, ()
    memory, source = device_bytes(launch)
    tried: list[Tried] = []
    for name in TEMPLATES:
        if name == "zero3-nvme" and not launch.nvme_path:
            continue
        trial = _with(composed, name)
        try:
            needed = max((_needed(name, plan, trial, facts) for plan in plans(trial)), default=0)
        except ConfigError:
            if stage_of(name) == 3:
                continue  # a stage of this recipe cannot be split that far; its own message says why when it is asked for
            raise
        tried.append(Tried(name, needed))
        if needed <= FILL * memory:
            told = ", ".join(f"{one.template} {one.needed_bytes / 2**30:.1f} GiB" for one in tried)
            return trial, (
                f"launch.deepspeed=auto takes {name} of (needed a process: {told}) for {memory / 2**30:.1f} GiB ({source})",
            )
    told = ", ".join(f"{one.template} {one.needed_bytes / 2**30:.1f} GiB" for one in tried)
    raise ConfigError(
        f"launch.deepspeed=auto: nothing fits {FILL:.0%} of {memory / 2**30:.1f} GiB ({source}); needed a process: {told}. More "
        "launch.processes, optim.micro_batch_size=1, optim.gradient_checkpointing=true, adapter.kind=lora or launch.nvme_path help."
    )


def _with(composed: Composed, name: str) -> Composed:
    config, plain = copy.copy(composed.config), dict(composed.plain)
    config.launch = replace(config.launch, deepspeed=name, zero_stage=stage_of(name))
    plain["launch"] = {**plain["launch"], "deepspeed": name, "zero_stage": stage_of(name)}
    return replace(composed, config=config, plain=plain)


def _needed(name: str, plan: StagePlan, composed: Composed, facts: ModelFacts) -> int:
    stage = composed.config.stages[plan.name]
    adapter: AdapterConfig | None = stage.adapter if isinstance(stage, TrainStageConfig) else None
    return plan.peak_memory_bytes - offloaded_bytes(name, trainable_params(facts, adapter), composed.config.launch.processes)


def device_bytes(launch: LaunchConfig) -> tuple[int, str]:
    """Memory of one process's device, and where the figure comes from."""
    if launch.device_gib:
        return round(launch.device_gib * 2**30), "launch.device_gib"
    if num_gpus():
        found = smallest_gpu()
        if found is None:
            raise ConfigError("launch.deepspeed=auto: nvidia-smi does not tell the GPUs' memory. Set launch.device_gib.")
        return found, "the smallest GPU, by nvidia-smi"
    free = available_memory()
    if free is None:
        raise ConfigError("launch.deepspeed=auto: the free memory cannot be read on this system. Set launch.device_gib.")
    return free // max(launch.processes, 1), "a process's share of the free memory"


def smallest_gpu() -> int | None:
    """Bytes of the smallest GPU; None when nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return min(int(line) for line in done.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
