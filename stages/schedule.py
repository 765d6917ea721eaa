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

VISION_PARTS = frozenset({
    "visual", "vision_tower", "vision_model", "multi_modal_projector", "image_newline", "dna_encoder", "dna_projector",
})  # fmt: skip
"""Module names that hold the vision tower and its projector (Qwen-VL's merger lies inside `visual`), or those of DNA."""


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


def is_projector(parameter_name: str) -> bool:
    """True for a parameter of the projector between vision tower and language model (Qwen-VL's mergers included)."""
    parts = parameter_name.split(".")
    return is_vision(parameter_name) and any(
        part in ("multi_modal_projector", "dna_projector") or "merger" in part for part in parts
    )


def lr_scale(parameter_name: str, optim: OptimConfig) -> float:
    """Learning rate of one parameter as a multiple of `optim.lr`."""
    if not is_vision(parameter_name):
        return optim.language_lr_scale
    if optim.projector_lr_scale is not None and is_projector(parameter_name):
        return optim.projector_lr_scale
    return optim.vision_lr_scale


def freeze_what_is_asked(model: nn.Module, optim: OptimConfig) -> int:
    """Stop gradients of what has a learning rate scale of 0; return how many parameters (tensors) it froze.

    Raises:
        ConfigError: a scale below 0.
    """
    for name in ("vision_lr_scale", "projector_lr_scale", "language_lr_scale"):
        if (getattr(optim, name) or 0.0) < 0:
            raise ConfigError(f"optim.{name} is {getattr(optim, name)}; give 0 (frozen) or more.")
    named = list(model.named_parameters())
    if (optim.vision_lr_scale != 1.0 or optim.projector_lr_scale is not None) and not any(is_vision(name) for name, _ in named):
        log.warning("optim.vision_lr_scale=%s has no effect: the model has no vision tower", optim.vision_lr_scale)
    frozen = [parameter for name, parameter in named if parameter.requires_grad and lr_scale(name, optim) == 0]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return len(frozen)


def param_groups(named: Iterable[tuple[str, nn.Parameter]], optim: OptimConfig) -> list[dict[str, Any]]:
    """AdamW groups of the trainable parameters: {language, vision, projector of its own rate} x {decayed, not decayed}, empty ones
    left out.

    Vectors (norm weights, biases) are not decayed. Each group keeps its peak rate in `peak_lr`.

    Raises:
        ConfigError: nothing is trainable.
    """
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    scales: dict[tuple[bool, bool, bool], float] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            is_apart = optim.projector_lr_scale is not None and is_projector(name)
            key = (is_vision(name), is_apart, parameter.ndim >= 2)
            groups.setdefault(key, []).append(parameter)
            scales[key] = lr_scale(name, optim)
    if not groups:
        raise ConfigError(
            "no parameter is trainable: the vision tower is frozen and nothing else may learn. Raise optim.vision_lr_scale or "
            "optim.language_lr_scale, or choose another adapter.kind or adapter.targets."
        )
    return [
        {
            "params": parameters,
            "lr": optim.lr * scales[key],
            "peak_lr": optim.lr * scales[key],
            "weight_decay": optim.weight_decay if key[2] else 0.0,
        }
        for key, parameters in groups.items()
    ]


def set_lr(groups: Iterable[dict[str, Any]], factor: float) -> None:
    """Give every group its peak rate times `factor`."""
    for group in groups:
        group["lr"] = group["peak_lr"] * factor
