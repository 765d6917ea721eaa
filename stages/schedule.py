"""Learning rate as a pure function of the step, and which parameters get which share of it.

A pure function needs no state in the checkpoint: the step number is enough.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from factory.config.schema import OptimConfig, Schedule
from factory.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

VISION_PARTS = frozenset({"visual", "vision_tower", "vision_model", "multi_modal_projector", "image_newline"})
"""Module names that hold the vision tower and its projector (Qwen-VL's merger lies inside `visual`)."""


def lr_factor(step: int, total_steps: int, optim: OptimConfig) -> float:
    """Learning rate of the update number `step` (0-based), as a multiple of `optim.lr`.

    Warm-up is linear from 1/warmup_steps to 1, so the first update is never a no-op. After it: `constant` stays at 1,
    `linear` and `cosine` fall to `min_lr_ratio`, which the last update (step total_steps-1) reaches exactly.

    Raises:
        ConfigError: `min_lr_ratio` outside [0, 1], or a negative warm-up.
    """
    if not 0.0 <= optim.min_lr_ratio <= 1.0:
        raise ConfigError(f"optim.min_lr_ratio is {optim.min_lr_ratio}; it is a share of optim.lr, so give a value in [0, 1].")
    if optim.warmup_steps < 0:
        raise ConfigError(f"optim.warmup_steps is {optim.warmup_steps}; give 0 or more.")
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    if optim.schedule == Schedule.constant:
        return 1.0
    num_falling = max(1, total_steps - 1 - optim.warmup_steps)
    progress = min(1.0, (step - optim.warmup_steps) / num_falling)
    shape = 1.0 - progress if optim.schedule == Schedule.linear else 0.5 * (1.0 + math.cos(math.pi * progress))
    return optim.min_lr_ratio + (1.0 - optim.min_lr_ratio) * shape


def is_vision(parameter_name: str) -> bool:
    """True for a parameter of the vision tower or its projector, by the module names on its path."""
    return not VISION_PARTS.isdisjoint(parameter_name.split("."))


def freeze_vision_if_asked(model: nn.Module, optim: OptimConfig) -> int:
    """Stop gradients of the vision tower when `vision_lr_scale` is 0; return how many parameters (tensors) it froze."""
    if optim.vision_lr_scale < 0:
        raise ConfigError(f"optim.vision_lr_scale is {optim.vision_lr_scale}; give 0 (frozen) or more.")
    vision = [parameter for name, parameter in model.named_parameters() if is_vision(name)]
    if not vision and optim.vision_lr_scale != 1.0:
        log.warning("optim.vision_lr_scale=%s has no effect: the model has no vision tower", optim.vision_lr_scale)
    if optim.vision_lr_scale != 0:
        return 0
    frozen = [parameter for parameter in vision if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return len(frozen)


def param_groups(named: Iterable[tuple[str, nn.Parameter]], optim: OptimConfig) -> list[dict[str, Any]]:
    """AdamW groups of the trainable parameters: {language, vision} x {decayed, not decayed}, empty ones left out.

    Vectors (norm weights, biases) are not decayed. Each group keeps its peak rate in `peak_lr`.

    Raises:
        ConfigError: nothing is trainable.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            groups.setdefault((is_vision(name), parameter.ndim >= 2), []).append(parameter)
    if not groups:
        raise ConfigError(
            "no parameter is trainable: the vision tower is frozen and nothing else may learn. "
            "Raise optim.vision_lr_scale or choose another adapter.kind or adapter.targets."
        )
    return [
        {
            "params": parameters,
            "lr": optim.lr * (optim.vision_lr_scale if vision else 1.0),
            "peak_lr": optim.lr * (optim.vision_lr_scale if vision else 1.0),
            "weight_decay": optim.weight_decay if decayed else 0.0,
        }
        for (vision, decayed), parameters in groups.items()
    ]


def set_lr(groups: Iterable[dict[str, Any]], factor: float) -> None:
    """Give every group its peak rate times `factor`."""
    for group in groups:
        group["lr"] = group["peak_lr"] * factor
