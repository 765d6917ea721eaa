"""Rollouts from the policy itself, in this process: our decode loop on a transformers model. CPU and any GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from factory.errors import TrainingError
from factory.stages.models.generate import generate, uniform_draws
from factory.stages.models.load import LoadedModel
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.rollouts import Request, Rollout, Sampling


class TransformersEngine:
    """Shares the policy's weights, so it is never behind: `sync` only notes the version.

    Args:
        loaded: the policy, without the wrapper of a parallel backend.
        prompts_per_generation: prompts decoded together; 0 means all.
        autocast: the number format of the learner's forward, so that both compute the same log-probs.
    """

    def __init__(
        self, loaded: LoadedModel, *, prompts_per_generation: int = 0,
        autocast: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:  # fmt: skip
        self._loaded = loaded
        self._num_prompts = prompts_per_generation
        self._autocast = autocast
        self._version = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, seed: int) -> Iterator[Rollout]:
        """Yield rollouts as they finish."""
        if not requests:
            return
        with self._autocast():
            found = generate(
                self._loaded, [request.prompt for request in requests], num_return=sampling.group_size,
                max_new_tokens=sampling.max_new_tokens, temperature=sampling.temperature,
                top_p=sampling.top_p, top_k=sampling.top_k,
                draws=_draws(requests, sampling, seed), max_rows=self._num_prompts * sampling.group_size,
            )  # fmt: skip
            for one in found:
                yield Rollout(
                    place=requests[one.prompt_index].place, index=one.sample_index, ids=list(one.ids),
                    logprobs=list(one.logprobs), finished=one.finished, version=self._version, entropy=one.entropy,
                )  # fmt: skip

    def sync(self, weights: WeightSource) -> int:
        """Note the version. Raises TrainingError when the weights are not this engine's own model (a bug of the caller)."""
        if weights.model is not self._loaded.model:
            raise TrainingError(
                "rl: engine=transformers generates with the policy's own module and was handed another one. Hand it the policy."
            )
        self._version = weights.version
        return self._version

    def close(self) -> None:
        """Nothing is held beside the policy."""


def _draws(requests: Sequence[Request], sampling: Sampling, seed: int) -> torch.Tensor:
    """[P, G, T] float64 in [0, 1): one for each token. The same for a prompt whatever device and number of processes."""
    shape = (sampling.group_size, sampling.max_new_tokens)
    if all(request.seed is not None for request in requests):
        return torch.stack([uniform_draws(torch.Generator().manual_seed(request.seed), *shape) for request in requests])
    table = uniform_draws(torch.Generator().manual_seed(seed), max(request.of for request in requests) or len(requests), *shape)
    return table[[request.place for request in requests]] if requests[0].of else table
