"""FSDP2: torch's own `fully_shard` splits weights, gradients and optimiser over the processes. An alternative to DeepSpeed's ZeRO 3.

Applied here and not by accelerate (1.15), which takes FSDP2 on GPUs only; on CPUs it runs over gloo in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from factory.stages.engine_state import MOMENTS, Named


def shard(model: nn.Module, device: torch.device, world_size: int, *, precision: str) -> None:
    """Split every block of the model, and what is left as one more unit, in place; the parameters become DTensors.

    `precision` bf16: weights are put together and multiplied in bf16, and gradients added up in fp32.
    """
    model.to(device)
    mesh = init_device_mesh(device.type, (world_size,))
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that are put together and taken apart one after the other: those that transformers itself never splits."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from all processes; a plain one as it is. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module, *, is_main: bool) -> dict[str, Tensor]:
    """The state dict with every tensor whole and in the machine's memory, on the main process; empty elsewhere. Collective."""
    found: dict[str, Tensor] = {}
    shared: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in shared:
            full = whole(parameter.detach())
            shared[id(parameter)] = full.cpu() if is_main else full.new_empty(0)
        found[name] = shared[id(parameter)]
    kept = model.state_dict().keys()
    buffers = {name: buffer.detach().cpu() for name, buffer in model.named_buffers() if name in kept}
    return {**found, **buffers} if is_main else {}


def wait_to_sync(model: nn.Module, *, is_last: bool) -> None:
    """Gradients are added up over the processes with the backward of the last micro-batch only."""
    assert isinstance(model, FSDPModule), "shard() was applied"
    model.set_requires_gradient_sync(is_last)


class FullyShardedState:
    """The optimiser's state behind a checkpoint (see engine_state.py)."""

    refusal = ""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._state: Mapping[Any, dict[str, Any]] = optimizer.state

    def updates_made(self) -> int:
        """0 before the first, when there are no moments yet."""
        return max((int(whole(state["step"])) for state in self._state.values() if "step" in state), default=0)

    def whole_tensors(self, named: Named) -> Iterator[tuple[str, Tensor]]:
        """Weight and moments of each parameter, put together. Collective."""
        has_moments = self.updates_made() > 0
        for name, parameter in named:
            yield f"{name}/weight", whole(parameter.detach())
            for moment in MOMENTS if has_moments else ():
                # A parameter that no row has reached yet (a vision tower before the first image) has none.
                held = self._state.get(parameter, {}).get(moment)
                yield f"{name}/{moment}", whole(held if held is not None else torch.zeros_like(parameter.detach()))

    def make_moments(self, step: int, named: Named) -> None:
        """Adam's state, which it makes itself only at its first update, with the step count that corrects its bias (on the device, as
        the fused Adam wants it)."""
        for _, parameter in named if step else ():
            self._state[parameter].update(
                {
                    "step": torch.tensor(float(step), device=parameter.device),
                    **{moment: torch.zeros_like(parameter.detach()) for moment in MOMENTS},
                }
            )

    def shape(self, parameter: nn.Parameter) -> tuple[int, ...]:
        """Of the whole parameter."""
        return tuple(parameter.shape)

    def give(self, parameter: nn.Parameter, value: Tensor, part: str) -> None:
        """This process's part of a whole `weight` or moment."""
        target = parameter.detach() if part == "weight" else self._state[parameter][part]
        with torch.no_grad():
            target.copy_(_part_of(value, target))


def _part_of(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    value = value.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
