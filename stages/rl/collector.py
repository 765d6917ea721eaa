"""From prompts to scored groups: render, generate, verify while others still generate, hooks, added rewards, gather.

Every process rolls out its share of the prompts; afterwards all hold all groups, so that filter and refill decisions,
made by pure functions of the groups, are the same everywhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.contracts import Sample
from factory.errors import DataError
from factory.rewards.judges.pool import JudgedPool
from factory.rewards.mixture import Mixture
from factory.rewards.pool import VerifierPool
from factory.rewards.watch import VerifierWatch
from factory.stages.batches import share_of
from factory.stages.rl.context import Pairs, StepContext
from factory.stages.rl.engines.protocol import RolloutEngine
from factory.stages.rl.logprobs import completion_logprobs
from factory.stages.rl.objective import Row
from factory.stages.rl.presets import Chosen
from factory.stages.rl.reference import MovingReference, Reference
from factory.stages.rl.rollouts import Group, Request, Rollout, Sampling, regroup, seed_of
from factory.stages.rl.transcript import transcript

if TYPE_CHECKING:
    from factory.stages.learner import Learner
    from factory.stages.models.codec import Encoded

log = logging.getLogger(__name__)


@dataclass
class Collector:
    """Rolls out and scores prompts with the engine's present weights."""

    learner: Learner
    engine: RolloutEngine
    pool: VerifierPool | JudgedPool
    mixture: Mixture
    chosen: Chosen
    sampling: Sampling
    reference: Reference | MovingReference | None
    seed: int
    context: int
    """Longest sequence the model takes, tokens."""
    watch: VerifierWatch | None = None
    """On the main process: flags verifiers whose reward rises while they are right less often."""
    _prompts: dict[str, Encoded] = field(default_factory=dict)

    def begin_step(self) -> None:
        """Forget the rendered prompts of the last step; images are large."""
        self._prompts.clear()
        if isinstance(self.pool, JudgedPool):
            self.pool.agreement.clear()

    def prompt(self, sample: Sample) -> Encoded:
        """The rendered prompt, made once per step. Raises DataError when there is no room to answer."""
        if sample.id not in self._prompts:
            # Rendered here too (it changes nothing twice), so that a stored rollout's prompt is the one it was sampled with.
            rendered = self.chosen.one("format").render(sample)
            encoded = self.learner.loaded.codec.prompt(rendered.messages, rendered.media)
            if len(encoded.ids) + self.sampling.max_new_tokens > self.context:
                raise DataError(
                    f"sample {sample.id!r}: {len(encoded.ids)} prompt tokens and max_new_tokens={self.sampling.max_new_tokens} "
                    f"exceed the model's context of {self.context}. Shorten the prompt or lower max_new_tokens."
                )
            self._prompts[sample.id] = encoded
        return self._prompts[sample.id]

    def ask_for(self, ctx: StepContext, rendered: Sequence[Sample], round_number: int) -> tuple[list[Request], Sampling, int]:
        """What the engine is asked for this process's share of the rendered samples: requests, sampling, seed."""
        mine = share_of(list(enumerate(rendered)), self.learner.rank, self.learner.world_size)
        requests = [Request(place, sample, self.prompt(sample), of=len(rendered)) for place, sample in mine]
        sampling = Sampling(
            ctx.group_size, ctx.max_new_tokens, self.sampling.temperature, self.sampling.top_p, self.sampling.top_k
        )
        return requests, sampling, seed_of(self.seed, "rollouts", ctx.step, round_number, 0)

    def roll_out(self, ctx: StepContext, samples: Sequence[Sample], round_number: int) -> list[Group]:
        """The scored groups of `samples`, in order, on every process."""
        form = self.chosen.one("format")
        rendered = [form.render(sample) for sample in samples]
        mine = share_of(list(enumerate(rendered)), self.learner.rank, self.learner.world_size)
        requests, sampling, seed = self.ask_for(ctx, rendered, round_number)
        rollouts = self._read(self.engine.generate(requests, sampling, seed=seed))
        rollouts = self._hooked(ctx, "before_reward", dict(mine), rollouts)
        rollouts = self._verified(rollouts, dict(mine))
        own = list(self._hooked(ctx, "after_reward", dict(mine), rollouts))
        self._add_rewards(ctx, own, dict(mine))
        groups = regroup(rendered, [rollout for share in self.learner.gather(own) for rollout in share])
        for reward in self.chosen.many("group_reward"):
            for group in groups:
                reward.apply(ctx, group)
        for counts in self.learner.gather(dict(ctx.counts)):
            for name, number in counts.items():
                ctx.metrics[name] = ctx.metrics.get(name, 0.0) + number
        ctx.counts.clear()
        if isinstance(self.pool, JudgedPool):
            ctx.metrics |= self.pool.figures()
        if self.watch is not None:
            rewards = (rollout.reward for group in groups for rollout in group.rollouts)
            ctx.metrics |= self.watch.look(ctx.step, [reward for reward in rewards if reward is not None], self.pool)
        return groups

    def read(self, rollout: Rollout) -> None:
        """Set text and fields from the tokens."""
        rollout.text = transcript(rollout, self.learner.loaded.codec)
        rollout.fields = dict(self.chosen.one("format").read(rollout.text))

    def _read(self, rollouts: Iterable[Rollout]) -> Iterator[Rollout]:
        """Set text and fields as rollouts finish."""
        for rollout in rollouts:
            self.read(rollout)
            yield rollout

    def _judged(self, text: str) -> str:
        """What the pack's verifiers are handed: the text, put by the format into the form that they read."""
        form = self.chosen.one("format")
        return form.judged(text) if hasattr(form, "judged") else text

    def _hooked(self, ctx: StepContext, when: str, samples: dict[int, Sample], rollouts: Iterable[Rollout]) -> Iterable[Rollout]:
        """Let the hooks of one moment change this process's rollouts. Without any, rollouts keep streaming."""
        hooks = [hook for hook in self.chosen.many("hook") if hook.when == when]
        if not hooks:
            return rollouts
        members: dict[int, list[Rollout]] = {place: [] for place in samples}
        for rollout in rollouts:
            members[rollout.place].append(rollout)
        groups = [Group(samples[place], sorted(own, key=lambda r: r.index)) for place, own in members.items()]
        for hook in hooks:
            hook.apply(ctx, groups)
        return [rollout for group in groups for rollout in group.rollouts]

    def _verified(self, rollouts: Iterable[Rollout], samples: dict[int, Sample]) -> Iterator[Rollout]:
        """Hand each rollout to the pool as it comes; yield them when their verdicts are in."""
        waiting: dict[tuple[int, int], Rollout] = {}
        for rollout in rollouts:
            sample = samples[rollout.place]
            waiting[rollout.place, rollout.index] = rollout
            self.pool.submit(
                (rollout.place, rollout.index), self._judged(rollout.text), sample, self.mixture.verifiers_for(sample.task)
            )
        failed: Counter[str] = Counter()
        for key, verdicts in self.pool.results():
            rollout = waiting.pop(key)
            task = samples[rollout.place].task
            rollout.reward = self.mixture.combine(task, verdicts)
            rollout.right = verdicts[self.mixture.main_verifier(task)].status.value == "ok"
            failed.update(f"{name}: {v.status.value} ({v.reason})" for name, v in verdicts.items() if v.status.is_masked)
            yield rollout
        for what, times in failed.most_common(3):
            log.warning("%d rollouts masked, verifier %s", times, what)

    def verify(self, pairs: Pairs) -> None:
        """Score this process's rollouts again, in place: after a hook changed their text."""
        samples = {place: sample for place, (sample, _) in enumerate(pairs)}
        own = {place: rollout for place, (_, rollout) in enumerate(pairs)}
        places = {place: (rollout.place, rollout.index) for place, rollout in own.items()}
        for place, rollout in own.items():
            rollout.place, rollout.index = place, 0
        try:
            for _ in self._verified(list(own.values()), samples):
                pass
        finally:
            for place, rollout in own.items():
                rollout.place, rollout.index = places[place]

    def score(self, ctx: StepContext, pairs: Pairs) -> None:
        """Read, verify and add the reward terms of this process's share of foreign rollouts, in place.

        A KL in the reward is left out: it compares with the policy that sampled, and none of ours did.
        """
        for _, rollout in pairs:
            self.read(rollout)
        self.verify(pairs)
        self._shape(ctx, pairs)

    def _shape(self, ctx: StepContext, pairs: Pairs) -> None:
        """Reward terms of single rollouts. `prepare(ctx, pairs)` of a reward sees all of this process's rollouts before."""
        for reward in self.chosen.many("reward"):
            if hasattr(reward, "prepare"):
                reward.prepare(ctx, pairs)
            for sample, rollout in pairs:
                rollout.shaping[reward.key] = reward.score(ctx, sample, rollout)

    def _add_rewards(self, ctx: StepContext, rollouts: list[Rollout], samples: dict[int, Sample]) -> None:
        """The added reward terms of single rollouts, and the KL when it belongs in the reward."""
        self._shape(ctx, [(samples[rollout.place], rollout) for rollout in rollouts])
        kl = self.chosen.one("kl")
        if kl is not None and kl.place == "reward":
            self.add_reference([Row(self.prompt(samples[rollout.place]), rollout) for rollout in rollouts])
            for rollout in rollouts:
                rollout.shaping["kl"] = -ctx.kl_coef * kl_sum(rollout, kl)

    def add_reference(self, rows: list[Row]) -> None:
        """Fill in the reference's log-probs of each rollout."""
        assert self.reference is not None, "a KL piece declares the need of a reference"
        with self.reference.model(self.learner.device) as model:
            found = completion_logprobs(rows, model, self.learner, temperature=self.sampling.temperature)
        for row, logprobs in zip(rows, found, strict=True):
            row.rollout.ref_logprobs = logprobs


def kl_sum(rollout: Rollout, estimator: object) -> float:
    """Estimated KL of the whole completion against the reference, nats: the sum over its trained tokens (in float64)."""
    import torch

    policy = torch.tensor(rollout.logprobs, dtype=torch.float64)
    reference = torch.tensor(rollout.ref_logprobs, dtype=torch.float64)
    return float((estimator(policy, reference) * torch.tensor(rollout.trained())).sum())  # type: ignore[operator]
