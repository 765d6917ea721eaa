"""One RL step of any preset on recorded rollouts, up to the gradient: `python recorded_step.py BASE OUT` does it as one rank.

The parts are the real ones (collector, services, credit, objective, learner). Five are stand-ins: the engine plays rollouts
that depend on the sample and the index only; their text has the marks that formats look for; the verifier's verdict is a hash
of text and index, so groups are mixed under every format; the reference is the policy with other weights; the learner looks
at the gradient and does not step.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import learnable
import torch
from safetensors.torch import save_file

from factory.config.schema import OptimConfig
from factory.contracts import Status, Verdict
from factory.rewards.mixture import Mixture
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.rl.collector import Collector
from factory.stages.rl.config import RlConfig
from factory.stages.rl.loop import RlLoop
from factory.stages.rl.objective import Row, make_batch
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.presets import presets, resolve
from factory.stages.rl.rollouts import Rollout, Sampling
from factory.stages.rl.services import RunServices

GROUP, MAX_NEW = 4, 10
BY_LENGTH = "by length"
"""The order in which the loop itself deals rollouts out."""


class NeedsGeneration(Exception):
    """The preset asks the policy for more text in the middle of the step, which a recording cannot give."""


class Recorded:
    """An engine whose rollouts depend on sample and index only; old log-probs lie within 0.3 nats of the policy's."""

    def __init__(self, loaded) -> None:
        self._loaded = loaded

    def generate(self, requests, sampling, *, seed):
        for request in requests:
            for index in range(sampling.group_size):
                rng = random.Random(f"{request.sample.id}-{index}")
                ids = [rng.randrange(5, 40) for _ in range(rng.randint(1, MAX_NEW))]
                rollout = Rollout(request.place, index, ids, [0.0] * len(ids), len(ids) < MAX_NEW, 0, entropy=1.0)
                row = Row(request.prompt, rollout)
                rollout.logprobs = [one + rng.uniform(-0.3, 0.3) for one in self._logprobs(row)]
                yield rollout

    def _logprobs(self, row):
        from factory.stages.models.forward import token_logprobs

        with torch.no_grad():
            logp, _ = token_logprobs(self._loaded.model, make_batch([row], self._loaded.codec, None))
        return logp[0, len(row.prompt.ids) : row.length].tolist()


class HashPool:
    """Verdicts at once, in this process: right for about two rollouts of five, whatever they say."""

    def __init__(self) -> None:
        self._done = []

    def submit(self, key, text, sample, names):
        digest = zlib.crc32(f"{sample.id}-{key[1]}-{text}".encode()) % 5
        is_right = digest < 2
        verdict = Verdict(1.0 if is_right else 0.1 * digest, Status.ok if is_right else Status.wrong, "hash")
        self._done.append((key, dict.fromkeys(names, verdict)))

    def results(self):
        done, self._done = self._done, []
        yield from done


class MarkedCollector(Collector):
    """Reads every rollout as two thoughts with an answer each, made from its tokens."""

    def read(self, rollout):
        first, last = rollout.ids[0], rollout.ids[-1]
        rollout.text = (
            f"<think> {first} </think> <answer> {first % 3} </answer> <think> {last} </think> <answer> {last % 3} </answer>"
        )
        rollout.fields = dict(self.chosen.one("format").read(rollout.text))


class OtherWeights:
    """A reference that differs from the policy, so that a KL has a gradient."""

    def __init__(self, model) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        rng = torch.Generator().manual_seed(1)
        for parameter in self._model.parameters():
            parameter.add_(0.05 * parameter.abs().mean() * torch.randn(parameter.shape, generator=rng))

    @contextlib.contextmanager
    def model(self, device):
        yield self._model

    def update(self, step, policy):
        """Stays as it is."""


class WatchedLearner(Learner):
    """Keeps loss and gradient of the last step and leaves the weights alone."""

    def step(self, micro_batches, objective, *, allows=None):
        def look(norm):
            self.gradient = torch.cat([p.grad.flatten().clone() for p in self.model.parameters() if p.grad is not None])
            return False

        figures = super().step(micro_batches, objective, allows=look)
        self.loss = figures["loss"]
        return figures


class NoGeneration(RunServices):
    """The run's services without an engine that could write on."""

    def extend(self, *args, **kwargs):
        raise NeedsGeneration

    def ask(self, *args, **kwargs):
        raise NeedsGeneration


class Harness:
    """A policy, its learner and its reference, for one step of each preset."""

    def __init__(self, base: Path, workdir: Path) -> None:
        loaded = load(base, precision="fp32")
        self.learner = WatchedLearner(loaded, OptimConfig(warmup_steps=0, checkpoint_every=0), 10_000, workdir, 0)
        self.reference = OtherWeights(loaded.model)
        self.samples = learnable.samples()

    def loop(self, preset: str) -> RlLoop:
        """The loop of a run that is only ever asked for its first step."""
        config = RlConfig(preset=preset, prompts_per_step=4, group_size=GROUP, max_new_tokens=MAX_NEW, num_steps=10)
        chosen, pack = resolve(config), learnable.pack()
        sampling = Sampling(GROUP, MAX_NEW)
        engine = Recorded(self.learner.loaded)
        mixture = Mixture(pack.manifest.tasks, {}, known=pack.verifiers())
        prompts = PromptPool(self.samples)
        collector = MarkedCollector(
            learner=self.learner, engine=engine, pool=HashPool(), mixture=mixture, chosen=chosen, reference=self.reference,
            sampling=sampling, seed=0, context=self.learner.max_context,
        )  # fmt: skip
        services = NoGeneration(
            self.learner, engine, self.reference, collector.prompt, collector.verify, sampling, 0,
            demonstrations={sample.id: "blue" for sample in self.samples}, score_pairs=collector.score,
            read_rollout=collector.read,
            sample_of=lambda sample_id: chosen.one("format").render(prompts.sample_of(sample_id)),
        )  # fmt: skip
        ctx = SimpleNamespace(seed=0, build={"precision": "fp32"})
        loop = RlLoop(config, chosen, self.learner, collector, prompts, None, services, ctx)
        loop._has_checked = True  # the recorded log-probs are off on purpose
        return loop

    def step(self, preset: str, *, micro_batch_size: int = 0, order: str = BY_LENGTH) -> tuple[float, torch.Tensor]:
        """Loss and flat gradient of the preset's first optimiser step.

        Raises:
            NeedsGeneration: a piece wants more text.
        """
        self.learner.optim = replace(self.learner.optim, micro_batch_size=micro_batch_size)
        self.learner.loss = self.learner.gradient = None
        loop = self.loop(preset)
        ctx = loop.context(0)
        loop.collector.begin_step()
        groups = loop.credit(ctx, loop.collector.roll_out(ctx, self.samples, 0))
        rows = loop._rows(groups)
        if order != BY_LENGTH:
            random.Random(order).shuffle(rows)
        loop._complete_logprobs(rows, 0)
        loop._update(ctx, rows, 0)
        assert self.learner.gradient is not None, f"{preset}: no rollout of the recording trains"
        return self.learner.loss, self.learner.gradient


def main(base: Path, out: Path) -> None:
    """Every preset once on this rank; the main one writes losses.json and gradients.safetensors."""
    harness = Harness(base, out)
    losses, gradients = {}, {}
    for preset in presets():
        try:
            losses[preset], gradients[preset] = harness.step(preset)
        except NeedsGeneration:
            continue
    if harness.learner.is_main:
        save_file(gradients, out / "gradients.safetensors")
        (out / "losses.json").write_text(json.dumps({"world": harness.learner.world_size, "losses": losses}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may linger after the last collective
