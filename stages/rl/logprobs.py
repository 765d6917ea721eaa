"""Log-probabilities of finished rollouts under a fixed model: the policy before its update, or the reference."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from factory.errors import TrainingError
from factory.stages.batches import micro_batches
from factory.stages.models.forward import model_inputs, token_logprobs
from factory.stages.rl.objective import Row, make_batch

if TYPE_CHECKING:
    from factory.stages.learner import Learner

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


@dataclass
class SamplerCheck:
    """Sampler and learner are compared once a session, because a resumed one may run elsewhere; the figure is kept once a run.

    So a resumed run has the rows of an uninterrupted one.
    """

    is_done: bool = False
    is_noted: bool = False

    def __call__(self, rows: Sequence[Row], learner: Learner, *, temperature: float, precision: str) -> dict[str, float]:
        """As `check_sampler`; `sampler_gap` the first time in a run, nothing after that."""
        gap = check_sampler(rows, learner, temperature=temperature, precision=precision)
        found = {} if self.is_noted else {"sampler_gap": gap}
        self.is_done = self.is_noted = True
        return found

    def state_dict(self) -> dict[str, bool]:
        """Whether the run has the figure."""
        return {"is_noted": self.is_noted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that back."""
        self.is_noted = bool(state["is_noted"])


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
