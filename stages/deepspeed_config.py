"""DeepSpeed's settings from a template of `templates/deepspeed/` or a user's own file. No torch, no DeepSpeed at import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, near_miss

TEMPLATES = ("zero1", "zero2", "zero2-offload", "zero3", "zero3-offload", "zero3-nvme")
"""From the fastest to the one that needs least memory on the device. `offload` keeps the optimiser (ZeRO 3: the weights too) in the
machine's memory, `nvme` on a disk."""
NVME_MARK = "NVME_PATH"
_OURS = ("train_batch_size", "optimizer", "scheduler", "fp16", "amp")
"""Settings that would take over what the Learner does itself."""


def template_of(name: str, zero_stage: int) -> str:
    """The template that a build uses: the named one, else the plain one of the ZeRO stage."""
    return name or f"zero{zero_stage}"


def read_config(name: str, zero_stage: int, *, nvme_path: str = "") -> dict[str, Any]:
    """The content of a template or of a user's JSON file.

    Args:
        name: one of TEMPLATES, a path that ends in `.json`, or empty for the plain template of `zero_stage`.
        nvme_path: folder for `zero3-nvme`.

    Raises:
        ConfigError: no such template or file, not JSON, another ZeRO stage than `zero_stage`, or settings that are the Learner's.
    """
    chosen = template_of(name, zero_stage)
    if chosen.endswith(".json"):
        text, where = _read_file(Path(chosen).expanduser()), chosen
    elif chosen in TEMPLATES:
        text, where = (
            files("factory.templates").joinpath(f"deepspeed/{chosen}.json").read_text(encoding="utf-8"),
            f"template {chosen}",
        )
    else:
        raise ConfigError(
            f"launch.deepspeed={chosen!r} is no template.{near_miss(chosen, TEMPLATES)} Choose one of {', '.join(TEMPLATES)}, "
            "`auto`, or a file that ends in .json."
        )
    if NVME_MARK in text and not nvme_path:
        raise ConfigError(f"launch.deepspeed={chosen} needs launch.nvme_path, a folder on a fast disk of each machine.")
    try:
        config = json.loads(text.replace(NVME_MARK, nvme_path))
        stage = int(config["zero_optimization"]["stage"])
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"{where}: is no DeepSpeed configuration with zero_optimization.stage: {err!r}.") from err
    if stage != zero_stage:
        raise ConfigError(
            f"{where} has ZeRO stage {stage}, and launch.zero_stage is {zero_stage}. Set launch.zero_stage={stage}."
        )
    if int(config.get("sequence_parallel_size", 1)) > 1:
        raise ConfigError(
            f"{where}: sequence_parallel_size splits a row over processes, and the factory's denominators, fillers and packed rows count "
            "whole rows of one process. Remove it; for long rows take optim.micro_batch_size=1, optim.gradient_checkpointing=true and "
            "launch.deepspeed=zero3-offload."
        )
    taken = [key for key in _OURS if key in config]
    if taken:
        raise ConfigError(
            f"{where}: takes {', '.join(taken)} out of the factory's hands. Remove it; the stage's `optim` section decides."
        )
    return config


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"launch.deepspeed={path}: cannot be read: {err.strerror}.") from err


def split_as(launch: Mapping[str, Any]) -> int:
    """The ZeRO stage that splits as much as these launch settings do, -1 for none: FSDP2 splits what ZeRO 3 does."""
    return 3 if launch.get("fsdp", False) else int(launch.get("zero_stage", -1))


def stage_of(name: str) -> int:
    """ZeRO stage of a template, by its name."""
    return int(name.removeprefix("zero")[0])


def offloaded_bytes(name: str, trained: int, processes: int) -> int:
    """Bytes that a template keeps off the device, of one process's share: both Adam moments and the fp32 weights of what is trained
    (12 B a parameter), and under ZeRO 3 the weights of the forward (4 B)."""
    share = -(-trained // max(processes, 1))
    if name == "zero2-offload":
        return share * 8
    return share * 12 if name in ("zero3-offload", "zero3-nvme") else 0


def complete(config: Mapping[str, Any], *, clip_norm: float, has_gpu: bool) -> dict[str, Any]:
    """The settings that the Learner relies on, over those of the template. Accumulation is ours, so DeepSpeed's own is 1; gradients
    are checked before the update in every number format, so that a bad step leaves the weights alone."""
    zero = dict(config["zero_optimization"])
    if not has_gpu:
        zero["overlap_comm"] = False
        for part in ("offload_optimizer", "offload_param"):
            if part in zero:
                zero[part] = {**zero[part], "pin_memory": False}
    return {
        **config, "zero_optimization": zero, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm, "zero_allow_untested_optimizer": True, "steps_per_print": 10**9,
        "bf16": {"enabled": "auto", "check_grad_overflow": True},
    }  # fmt: skip
