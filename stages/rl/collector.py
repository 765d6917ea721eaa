"""From prompts to scored groups: render, generate, verify while others still generate, mix, shape, gather.

Every process rolls out its share of the prompts; afterwards all hold all groups, so that filter and refill decisions,
made by pure functions of the groups, are the same everywhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.contracts import Sample
from factory.errors import DataError
from factory.rewards.mixture import Mixture
from factory.rewards.pool import VerifierPool
from factory.stages.batches import share_of
from factory.stages.rl.engines.protocol import RolloutEngine
from factory.stages.rl.logprobs import Reference, completion_logprobs
from factory.stages.rl.objective import Row
from factory.stages.rl.pieces.overlong import soft_punishment
from factory.stages.rl.pieces.registry import pick
from factory.stages.rl.presets import RlSettings
from factory.stages.rl.rollouts import Group, Request, Rollout, Sampling, regroup, seed_of

if TYPE_CHECKING:
    from factory.stages.learner import Learner
    from factory.stages.models.codec import Encoded

log = logging.getLogger(__name__)


@dataclass
class Collector:
    """Rolls out and scores prompts with the engine's present weights."""

    learner: Learner
    engine: RolloutEngine
    pool: VerifierPool
    mixture: Mixture
    settings: RlSettings
    sampling: Sampling
    reference: Reference | None
    seed: int
    context: int
    """Longest sequence the model takes, tokens."""
    _prompts: dict[str, Encoded] = field(default_factory=dict)

    def begin_step(self) -> None:
        """Forget the rendered prompts of the last step; images are large."""
        self._prompts.clear()

    def prompt(self, sample: Sample) -> Encoded:
        """The rendered prompt, made once per step. Raises DataError when there is no room to answer."""
        if sample.id not in self._prompts:
            encoded = self.learner.loaded.codec.prompt(sample.messages, sample.media)
            if len(encoded.ids) + self.sampling.max_new_tokens > self.context:
                raise DataError(
                    f"sample {sample.id!r}: {len(encoded.ids)} prompt tokens and max_new_tokens={self.sampling.max_new_tokens} "
                    f"exceed the model's context of {self.context}. Shorten the prompt or lower max_new_tokens."
                )
            self._prompts[sample.id] = encoded
        return self._prompts[sample.id]

    def roll_out(self, samples: list[Sample], step: int, round_number: int) -> list[Group]:
        """The scored groups of `samples`, in order, on every process."""
        mine = share_of(list(enumerate(samples)), self.learner.rank, self.learner.world_size)
        requests = [Request(place, sample, self.prompt(sample)) for place, sample in mine]
        seed = seed_of(self.seed, "rollouts", step, round_number, self.learner.rank)
        rollouts = list(self._generate_and_verify(requests, seed))
        self._shape(rollouts, requests)
        return regroup(samples, [rollout for share in self.learner.gather(rollouts) for rollout in share])

    def _generate_and_verify(self, requests: list[Request], seed: int) -> Iterator[Rollout]:
        """Hand each rollout to the pool as it finishes; yield them when their verdicts are in."""
        samples = {request.place: request.sample for request in requests}
        waiting: dict[tuple[int, int], Rollout] = {}
        for rollout in self.engine.generate(requests, self.sampling, seed=seed):
            sample = samples[rollout.place]
            rollout.text = self.learner.loaded.codec.completion(rollout.ids)
            waiting[rollout.place, rollout.index] = rollout
            self.pool.submit((rollout.place, rollout.index), rollout.text, sample, self.mixture.verifiers_for(sample.task))
        failed: Counter[str] = Counter()
        for key, verdicts in self.pool.results():
            rollout = waiting.pop(key)
            rollout.reward = self.mixture.combine(samples[rollout.place].task, verdicts)
            failed.update(f"{name}: {v.status.value} ({v.reason})" for name, v in verdicts.items() if v.status.is_masked)
            yield rollout
        for what, times in failed.most_common(3):
            log.warning("%d rollouts masked, verifier %s", times, what)

    def _shape(self, rollouts: list[Rollout], requests: list[Request]) -> None:
        """Set what is added to the reward: the overlong punishment, and the KL when it belongs in the reward."""
        settings = self.settings
        for rollout in rollouts:
            rollout.shaping = soft_punishment(
                len(rollout.ids), max_length=settings.max_new_tokens, cache=settings.overlong_cache,
                factor=settings.overlong_factor,
            )  # fmt: skip
        if settings.kl_coef and settings.kl_in == "reward":
            prompts = {request.place: request.prompt for request in requests}
            self.add_reference([Row(prompts[rollout.place], rollout) for rollout in rollouts])
            for rollout in rollouts:
                rollout.shaping -= settings.kl_coef * kl_sum(rollout, settings.kl_estimator)

    def add_reference(self, rows: list[Row]) -> None:
        """Fill in the reference's log-probs of each rollout."""
        assert self.reference is not None, "a KL coefficient above 0 makes a reference"
        with self.reference.model(self.learner.device) as model:
            found = completion_logprobs(rows, model, self.learner, temperature=self.sampling.temperature)
        for row, logprobs in zip(rows, found, strict=True):
            row.rollout.ref_logprobs = logprobs


def kl_sum(rollout: Rollout, estimator: str) -> float:
    """Estimated KL of the whole completion against the reference, nats: the sum over its tokens (in float64)."""
    import torch

    policy = torch.tensor(rollout.logprobs, dtype=torch.float64)
    reference = torch.tensor(rollout.ref_logprobs, dtype=torch.float64)
    return float(pick("kl", estimator).function(policy, reference).sum())
