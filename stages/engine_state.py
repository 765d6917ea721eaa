"""The state of an optimiser that is split over processes as whole tensors, which any number of processes can take up again.

DeepSpeed's own checkpoints hold one pickle per process and fit only as many processes. Here every parameter is put together in
turn (fp32 weight and both Adam moments), the main process writes it, and a resume lets each process take its part of it. ZeRO 1 to 3
and FSDP2 write and read the same files:

    engine/part-00000.safetensors    `NAME/weight`, `NAME/exp_avg`, `NAME/exp_avg_sq`, float32, at most PART_BYTES a file
    engine/step.json                 {"step": updates the optimiser has made}

The functions here are collective: call them on every process, with the same parameters in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

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


class SplitState(Protocol):
    """Who knows how the state is split: `zero_state.ZeroState`, `fully_sharded.FullyShardedState`."""

    @property
    def refusal(self) -> str:
        """Why no state can be given to it; empty when it can."""

    def updates_made(self) -> int:
        """Updates that the optimiser has made; before the first it has no moments."""

    def whole_tensors(self, named: Named) -> Iterator[tuple[str, torch.Tensor]]:
        """`NAME/weight` and the moments of each parameter, whole, on every process."""

    def make_moments(self, step: int, named: Named) -> None:
        """Room for the moments of `step` updates."""

    def shape(self, parameter: torch.nn.Parameter) -> tuple[int, ...]:
        """Of the whole parameter."""

    def give(self, parameter: torch.nn.Parameter, value: torch.Tensor, part: str) -> None:
        """Take this process's part of a whole tensor; `part` is `weight` or one of MOMENTS."""


def write_whole(folder: Path, state: SplitState, named: Named, *, is_main: bool) -> None:
    """Put the state of the trainable parameters together and write it to `folder` (on the main process)."""
    if is_main:
        folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, torch.Tensor] = {}
    num_parts = size = 0
    for name, tensor in state.whole_tensors(named):
        if not is_main:
            continue
        held[name] = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        size += held[name].numel() * 4
        if size >= PART_BYTES:
            save_file(held, folder / f"part-{num_parts:05d}.safetensors")
            held, num_parts, size = {}, num_parts + 1, 0
    if is_main:
        save_file(held, folder / f"part-{num_parts:05d}.safetensors")
        (folder / _STEP).write_text(json.dumps({"step": state.updates_made()}), encoding="utf-8")


def read_whole(folder: Path, state: SplitState, named: Named) -> None:
    """Give each process its part of what `write_whole` wrote, whatever number of processes wrote it.

    Raises:
        TrainingError: a file is missing or damaged, the state is of another model, or the optimiser lies on a disk.
    """
    remedy = f"Delete {folder.parent} to train the stage from its start."
    if state.refusal:
        raise TrainingError(f"{folder}: {state.refusal}")
    try:
        step = int(json.loads((folder / _STEP).read_text(encoding="utf-8"))["step"])
        where = _find(folder)
        state.make_moments(step, named)
        for name, parameter in named:
            for part in ("weight", *(MOMENTS if step else ())):
                value = where[f"{name}/{part}"].get_tensor(f"{name}/{part}")
                if tuple(value.shape) != state.shape(parameter):
                    raise TrainingError(
                        f"{folder}: {name} has the shape {tuple(value.shape)}, not {state.shape(parameter)}. {remedy}"
                    )
                state.give(parameter, value, part)
    except (OSError, ValueError, KeyError, SafetensorError) as err:
        raise TrainingError(f"{folder}: the optimiser's state cannot be read ({err!r}). {remedy}") from err


def _find(folder: Path) -> dict[str, Any]:
    """Tensor name -> the open file that holds it; nothing is read yet."""
    found = {}
    for path in sorted(folder.glob("part-*.safetensors")):
        file = safe_open(path, framework="pt", device="cpu")
        found |= dict.fromkeys(file.keys(), file)
    return found
