"""Rollouts from the policy itself, in this process: our decode loop on a transformers model. CPU and any GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from factory.errors import TrainingError
from factory.stages.models.generate import generate
from factory.stages.models.load import LoadedModel
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.rollouts import Request, Rollout, Sampling


class TransformersEngine:
    """Shares the policy's weights, so it is never behind: `sync` only notes the version."""

    def __init__(self, loaded: LoadedModel, *, prompts_per_generation: int = 0) -> None:
        self._loaded = loaded
        self._batch = prompts_per_generation
        self._version = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, seed: int) -> Iterator[Rollout]:
        """Yield rollouts as they finish, decoding `prompts_per_generation` prompts together."""
        device = next(self._loaded.model.parameters()).device
        generator = torch.Generator(device=device).manual_seed(seed)
        size = self._batch or len(requests)
        was_training = self._loaded.model.training
        self._loaded.model.eval()
        try:
            for start in range(0, len(requests), max(size, 1)):
                yield from self._decode(requests[start : start + size], sampling, generator)
        finally:
            self._loaded.model.train(was_training)

    def _decode(self, requests: Sequence[Request], sampling: Sampling, generator: torch.Generator) -> Iterator[Rollout]:
        found = generate(
            self._loaded, [request.prompt for request in requests], num_return=sampling.group_size,
            max_new_tokens=sampling.max_new_tokens, temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k,
            generator=generator,
        )  # fmt: skip
        for one in found:
            yield Rollout(
                place=requests[one.prompt_index].place, index=one.sample_index, ids=list(one.ids), logprobs=list(one.logprobs),
                finished=one.finished, version=self._version, entropy=one.entropy,
            )  # fmt: skip

    def sync(self, weights: WeightSource) -> int:
        """Note the version. Raises TrainingError when the weights are not this engine's own model (a bug of the caller)."""
        if weights.model is not self._loaded.model:
            raise TrainingError("rl: engine=transformers generates with the policy's own module and was handed another one.")
        self._version = weights.version
        return self._version

    def close(self) -> None:
        """Nothing is held beside the policy."""
