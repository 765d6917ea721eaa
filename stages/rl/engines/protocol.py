"""What the loop asks of an engine: two methods, and a version that says which weights it generates with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from factory.stages.rl.rollouts import Request, Rollout, Sampling

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class WeightSource:
    """The policy's weights as an engine may fetch them."""

    version: int
    """Number of RL updates the weights have seen; grows by one with each."""
    model: nn.Module
    """The policy without the wrapper of any parallel backend."""
    adapter: bool
    """True when only adapter weights change, so an engine may fetch those alone."""


class RolloutEngine(Protocol):
    """Generates completions. An engine in another process (vLLM) copies the weights in `sync`."""

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, seed: int) -> Iterator[Rollout]:
        """Yield `sampling.group_size` rollouts per request, each as it finishes, with the sampler's log-probs.

        Deterministic in (weights, requests, sampling, seed). `version` of each rollout is that of the weights that wrote it.
        """

    def sync(self, weights: WeightSource) -> int:
        """Take over the weights; return the version that the next rollouts are made with (an engine may lag behind)."""

    # Optional: `runs_apart = True`, when `generate` may run in a thread while the policy trains (see one_step_off.py);
    # `figures()` after `sync`, named numbers for metrics.jsonl; `rest()`, called before the updates of a step: nothing is
    # generated until the next `sync`.

    def close(self) -> None:
        """Let go of processes and memory. Called once, also after an error."""
