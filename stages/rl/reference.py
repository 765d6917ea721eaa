"""The model that KL and confidence compare with: the policy at the start of the stage, or a moving average of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from factory.stages.models.load import LoadedModel
    from factory.stages.rl.presets import Chosen


class Reference:
    """The model at the start of the stage: the adapter switched off, or (without an adapter) a frozen copy."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Make it before the Learner touches the model: a resumed run must not take trained weights for the reference."""
        self._model: Any = loaded.model if loaded.adapter else copy.deepcopy(loaded.model).eval().requires_grad_(False)
        self._is_adapter = loaded.adapter

    def update(self, step: int, policy: nn.Module) -> None:
        """Called after each RL step; the model at the stage's start stays as it is."""

    @contextmanager
    def model(self, device: torch.device) -> Iterator[nn.Module]:
        """The reference for as long as the block runs."""
        if self._is_adapter:
            with self._model.disable_adapter():
                yield self._model
        else:
            yield self._model.to(device)


class MovingReference:
    """An exponential moving average of the trained weights (float32), put in their place while it scores.

    With an adapter, only the adapter is averaged and the base is shared. `Stateful`: the average belongs in the checkpoint.
    """

    def __init__(self, loaded: LoadedModel, *, decay: float, every: int) -> None:
        """Make it before the Learner touches the model: it starts as the policy at the start of the stage."""
        self._model, self._decay, self._every = loaded.model, decay, every
        self._average = {name: p.detach().float().clone() for name, p in loaded.model.named_parameters() if p.requires_grad}

    def update(self, step: int, policy: nn.Module) -> None:
        """After every `every`-th RL step: `average = decay * average + (1 - decay) * policy`."""
        if (step + 1) % self._every:
            return
        with torch.no_grad():
            for name, parameter in self._averaged(policy):
                average = self._on(name, parameter.device)
                average.mul_(self._decay).add_(parameter.float(), alpha=1.0 - self._decay)

    @contextmanager
    def model(self, device: torch.device) -> Iterator[nn.Module]:
        """The policy with the average as its weights for as long as the block runs; afterwards it has its own back."""
        own = {name: parameter.data for name, parameter in self._averaged(self._model)}
        try:
            for name, parameter in self._averaged(self._model):
                parameter.data = self._on(name, device).to(parameter.dtype)
            yield self._model
        finally:
            for name, parameter in self._averaged(self._model):
                parameter.data = own[name]

    def state_dict(self) -> dict[str, Any]:
        """The average; the main process alone holds it in the checkpoint."""
        return {"average": self._average if _rank() == 0 else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the main process's average on every process."""
        policy = dict(self._averaged(self._model))
        for name in self._average:
            average = self._on(name, policy[name].device)
            if _rank() == 0:
                average.copy_(state["average"][name])
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.broadcast(average, src=0)

    def _averaged(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, parameter) for name, parameter in model.named_parameters() if name in self._average)

    def _on(self, name: str, device: torch.device) -> torch.Tensor:
        self._average[name] = self._average[name].to(device)
        return self._average[name]


def _rank() -> int:
    is_many = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if is_many else 0


def make_reference(loaded: LoadedModel, chosen: Chosen) -> Reference | MovingReference | None:
    """The reference that the chosen pieces need, None when none does. Make it before the Learner touches the model."""
    if "ref_logprobs" not in chosen.needs():
        return None
    if "ema_reference" in chosen.needs():
        piece = chosen.one("reference")
        return MovingReference(loaded, decay=piece.decay, every=piece.every)
    return Reference(loaded)
