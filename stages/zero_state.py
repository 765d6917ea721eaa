"""DeepSpeed's optimiser state, put together and taken apart parameter by parameter, for checkpoints (see engine_state.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from factory.stages.engine_state import MOMENTS, Named


class ZeroState:
    """Of a DeepSpeed engine under ZeRO 1, 2 or 3. Everything here is collective."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @property
    def refusal(self) -> str:
        """Why no state can be given to it; empty when it can."""
        if getattr(self._engine.optimizer, "swap_optimizer", False):
            return (
                "DeepSpeed cannot be given an optimiser's state that it keeps on a disk (zero3-nvme). "
                "Resume with launch.deepspeed=zero3-offload, which the checkpoint fits as well."
            )
        return ""

    def updates_made(self) -> int:
        """Updates that the optimiser has made: 0 before the first, when it has no moments yet."""
        steps = [int(state["step"]) for state in self._engine.optimizer.optimizer.state.values() if "step" in state]
        return max(steps, default=0)

    def whole_tensors(self, named: Named) -> Iterator[tuple[str, torch.Tensor]]:
        """Weight and moments of each parameter."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        has_moments = self.updates_made() > 0
        if has_moments:
            self._link_moments()
        for name, parameter in named:
            yield f"{name}/weight", safe_get_full_fp32_param(parameter)
            for moment in MOMENTS if has_moments else ():
                yield f"{name}/{moment}", safe_get_full_optimizer_state(parameter, moment)

    def make_moments(self, step: int, named: Named) -> None:
        """Adam's state, which it makes itself only at its first update, with the step count that corrects its bias."""
        if not step:
            return
        adam = self._engine.optimizer.optimizer
        counts_in_tensors = isinstance(adam, torch.optim.Optimizer) and type(adam).__module__.startswith("torch.")
        for flat in self._flat_masters():
            state = adam.state[flat]
            state["step"] = torch.tensor(float(step)) if counts_in_tensors else step
            for moment in MOMENTS:
                state[moment] = torch.zeros_like(flat, requires_grad=False)
        self._link_moments()

    def shape(self, parameter: torch.nn.Parameter) -> tuple[int, ...]:
        """Of the whole parameter."""
        return tuple(getattr(parameter, "ds_shape", parameter.shape))

    def give(self, parameter: torch.nn.Parameter, value: torch.Tensor, part: str) -> None:
        """This process's part of a whole `weight` or moment."""
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

    def _flat_masters(self) -> list[torch.Tensor]:
        """This process's fp32 weights as the optimiser steps them: flat, one per parameter group (ZeRO 3: per sub-group)."""
        zero = self._engine.optimizer
        return list(
            zero.fp32_partitioned_groups_flat
            if hasattr(zero, "fp32_partitioned_groups_flat")
            else zero.single_partition_of_fp32_groups
        )

    def _link_moments(self) -> None:
        """ZeRO 1 and 2: tell each parameter where its moments are.

        DeepSpeed (0.19) does that once, after the first parameter group was stepped, so those of further groups stay unknown.
        """
        zero = self._engine.optimizer
        if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):
            zero._hp_optimizer_states_linked = False
            zero._lazy_init_hp_params_optimizer_state()
