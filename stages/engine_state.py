"""The state of a DeepSpeed optimiser as whole tensors, which any number of processes can take up again.

DeepSpeed's own checkpoints hold one pickle per process and fit only as many processes. Here every parameter is put together in
turn (fp32 weight and both Adam moments), the main process writes it, and a resume lets each process take its part of it:

    engine/part-00000.safetensors    `NAME/weight`, `NAME/exp_avg`, `NAME/exp_avg_sq`, float32, at most PART_BYTES a file
    engine/step.json                 {"step": updates the optimiser has made}

The functions here are collective: call them on every process, with the same parameters in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from factory.errors import TrainingError

PART_BYTES = 2 << 30
"""Bytes of state that the main process holds before it writes them."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of Adam, by the names that torch and DeepSpeed share."""
_STEP = "step.json"

Named = Sequence[tuple[str, torch.nn.Parameter]]


def write_whole(folder: Path, engine: Any, named: Named, *, is_main: bool) -> None:
    """Put the state of the trainable parameters together and write it to `folder` (on the main process)."""
    if is_main:
        folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, torch.Tensor] = {}
    num_parts = size = 0
    for name, tensor in _whole_tensors(engine, named):
        if not is_main:
            continue
        held[name] = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        size += held[name].numel() * 4
        if size >= PART_BYTES:
            save_file(held, folder / f"part-{num_parts:05d}.safetensors")
            held, num_parts, size = {}, num_parts + 1, 0
    if is_main:
        save_file(held, folder / f"part-{num_parts:05d}.safetensors")
        (folder / _STEP).write_text(json.dumps({"step": _updates_made(engine)}), encoding="utf-8")


def read_whole(folder: Path, engine: Any, named: Named) -> None:
    """Give each process its part of what `write_whole` wrote, whatever number of processes wrote it.

    Raises:
        TrainingError: a file is missing or damaged, the state is of another model, or the optimiser lies on a disk.
    """
    remedy = f"Delete {folder.parent} to train the stage from its start."
    if getattr(engine.optimizer, "swap_optimizer", False):
        raise TrainingError(
            f"{folder}: DeepSpeed cannot be given an optimiser's state that it keeps on a disk (zero3-nvme). "
            "Resume with launch.deepspeed=zero3-offload, which the checkpoint fits as well."
        )
    try:
        step = int(json.loads((folder / _STEP).read_text(encoding="utf-8"))["step"])
        where = _find(folder)
        _make_moments(engine, step)
        for name, parameter in named:
            for part in ("weight", *(MOMENTS if step else ())):
                value = where[f"{name}/{part}"].get_tensor(f"{name}/{part}")
                if tuple(value.shape) != _shape(parameter):
                    raise TrainingError(f"{folder}: {name} has the shape {tuple(value.shape)}, not {_shape(parameter)}. {remedy}")
                _give(parameter, value, part)
    except (OSError, ValueError, KeyError, SafetensorError) as err:
        raise TrainingError(f"{folder}: the optimiser's state cannot be read ({err!r}). {remedy}") from err


def _whole_tensors(engine: Any, named: Named) -> Iterator[tuple[str, torch.Tensor]]:
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    has_moments = _updates_made(engine) > 0
    if has_moments:
        _link_moments(engine)
    for name, parameter in named:
        yield f"{name}/weight", safe_get_full_fp32_param(parameter)
        for moment in MOMENTS if has_moments else ():
            yield f"{name}/{moment}", safe_get_full_optimizer_state(parameter, moment)


def _give(parameter: torch.nn.Parameter, value: torch.Tensor, part: str) -> None:
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if part != "weight":
        safe_set_full_optimizer_state(parameter, value, part)
        return
    safe_set_full_fp32_param(parameter, value)
    # The forward runs on a second copy of the weights, in the training format; under ZeRO 3 it is split as well.
    with (
        deepspeed.zero.GatheredParameters([parameter], modifier_rank=0 if hasattr(parameter, "ds_id") else None),
        torch.no_grad(),
    ):
        parameter.data.copy_(value)


def _find(folder: Path) -> dict[str, Any]:
    """Tensor name -> the open file that holds it; nothing is read yet."""
    found = {}
    for path in sorted(folder.glob("part-*.safetensors")):
        file = safe_open(path, framework="pt", device="cpu")
        found |= dict.fromkeys(file.keys(), file)
    return found


def _flat_masters(engine: Any) -> list[torch.Tensor]:
    """This process's fp32 weights as DeepSpeed's optimiser steps them: flat, one per parameter group (ZeRO 3: per sub-group)."""
    zero = engine.optimizer
    return list(
        zero.fp32_partitioned_groups_flat
        if hasattr(zero, "fp32_partitioned_groups_flat")
        else zero.single_partition_of_fp32_groups
    )


def _updates_made(engine: Any) -> int:
    """Updates that the optimiser has made: 0 before the first, when it has no moments yet."""
    steps = [int(state["step"]) for state in engine.optimizer.optimizer.state.values() if "step" in state]
    return max(steps, default=0)


def _make_moments(engine: Any, step: int) -> None:
    """Adam's state, which it makes itself only at its first update, with the step count that corrects its bias."""
    if not step:
        return
    adam = engine.optimizer.optimizer
    counts_in_tensors = isinstance(adam, torch.optim.Optimizer) and type(adam).__module__.startswith("torch.")
    for flat in _flat_masters(engine):
        state = adam.state[flat]
        state["step"] = torch.tensor(float(step)) if counts_in_tensors else step
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(flat, requires_grad=False)
    _link_moments(engine)


def _link_moments(engine: Any) -> None:
    """ZeRO 1 and 2: tell each parameter where its moments are.

    DeepSpeed (0.19) does that once, after the first parameter group was stepped, so those of further groups stay unknown.
    """
    zero = engine.optimizer
    if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def _shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
