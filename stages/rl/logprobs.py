"""Log-probabilities of finished rollouts under a fixed model: the policy before its update, or the reference."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from factory.errors import TrainingError
from factory.stages.batches import micro_batches
from factory.stages.models.forward import model_inputs, token_logprobs
from factory.stages.rl.objective import Row, make_batch

if TYPE_CHECKING:
    from factory.stages.learner import Learner
    from factory.stages.models.load import LoadedModel
    from factory.stages.rl.presets import Chosen

log = logging.getLogger(__name__)

MAX_SAMPLER_GAP = 1e-2
"""Nats. In fp32 the sampler and the learner are the same numbers but for rounding (about 1e-5); more is a bug."""


def completion_logprobs(rows: Sequence[Row], model: nn.Module, learner: Learner, *, temperature: float) -> list[list[float]]:
    """One list per row: log-probability of each completion token at `temperature`, without gradient, in eval mode."""
    # Equal lengths together: less padding. The order of the answer is that of `rows`.
    order = sorted(range(len(rows)), key=lambda i: -rows[i].length)
    found: list[list[float]] = [[] for _ in rows]
    was_training = model.training
    model.eval()
    with torch.no_grad(), learner.autocast():
        for part in micro_batches(order, learner.optim.micro_batch_size):
            batch = make_batch([rows[i] for i in part], learner.loaded.codec, learner.device)
            logp, _ = token_logprobs(model, batch, temperature=temperature)
            for b, i in enumerate(part):
                found[i] = logp[b, len(rows[i].prompt.ids) : rows[i].length].float().tolist()
    model.train(was_training)
    return found


def completion_entropies(rows: Sequence[Row], model: nn.Module, learner: Learner, *, temperature: float) -> list[float]:
    """Mean entropy of the policy over each row's trained tokens, nats, without gradient; 0 for a row without any."""
    found = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: -rows[i].length)
    was_training = model.training
    model.eval()
    with torch.no_grad(), learner.autocast():
        for part in micro_batches(order, learner.optim.micro_batch_size):
            batch = make_batch([rows[i] for i in part], learner.loaded.codec, learner.device)
            _, entropy = token_logprobs(model, batch, temperature=temperature, with_entropy=True)
            mask = batch["policy_mask"]
            means = (entropy * mask).sum(1) / mask.sum(1).clamp(min=1.0)
            for b, i in enumerate(part):
                found[i] = float(means[b])
    model.train(was_training)
    return found


def vocab_logprobs(rows: Sequence[Row], model: nn.Module, learner: Learner, *, temperature: float) -> torch.Tensor:
    """[G, T, V] float32: the whole distribution before each completion token; positions after a row's end are uniform (-log V)."""
    was_training = model.training
    model.eval()
    found = []
    with torch.no_grad(), learner.autocast():
        for row in rows:
            batch = learner.loaded.codec.collate([row.encoded(learner.loaded.codec)], device=learner.device)
            start = len(row.prompt.ids) - 1
            logits = model(**model_inputs(batch)).logits[0, start : row.length - 1].float()
            found.append((logits / temperature).log_softmax(-1))
    model.train(was_training)
    longest, vocabulary = max(len(one) for one in found), found[0].shape[-1]
    padded = torch.full((len(found), longest, vocabulary), -math.log(vocabulary), device=found[0].device)
    for g, one in enumerate(found):
        padded[g, : len(one)] = one
    return padded


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


def check_sampler(rows: Sequence[Row], learner: Learner, *, temperature: float, precision: str) -> float:
    """Largest difference, over all processes, between the sampler's log-probs and the learner's; nats.

    Raises:
        TrainingError: above `MAX_SAMPLER_GAP` in fp32: sampler and learner do not see the same model or tokens.
    """
    found = completion_logprobs(rows, learner.model, learner, temperature=temperature)
    gaps = [abs(a - b) for row, new in zip(rows, found, strict=True) for a, b in zip(row.rollout.logprobs, new, strict=True)]
    worst = max(learner.gather(max(gaps, default=0.0)))
    log.info("largest gap between the sampler's log-probs and the learner's: %.2e nats", worst)
    if precision == "fp32" and worst > MAX_SAMPLER_GAP:
        raise TrainingError(
            f"rl: the sampler's log-probs differ from the learner's by up to {worst:.3g} nats "
            f"(allowed: {MAX_SAMPLER_GAP} in fp32). "
            "The engine has other weights, another temperature or another rendering of the prompt than the learner."
        )
    return worst
