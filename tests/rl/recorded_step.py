"""One RL step of any preset on recorded rollouts, up to the gradient: `python recorded_step.py BASE OUT SEEING` does it as one rank.

The parts are the real ones (collector, services, credit, objective, learner). Six are stand-ins: the engine plays rollouts
that depend on the sample and the index only; their text has the marks that formats look for; what the policy would write on is
recorded too; the verifier's verdict is a hash of text and index, so groups are mixed under every format; the reference is the
policy with other weights; the learner looks at the gradient and does not step.

Presets that look at images, ask for a form of answer or have the policy write on run on questions about images (`seeing`).
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
from types import ModuleType, SimpleNamespace

import learnable
import seeing
import torch
from safetensors.torch import save_file

from factory.config.schema import OptimConfig
from factory.contracts import Status, Verdict
from factory.rewards.mixture import Mixture
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.rl.collector import Collector
from factory.stages.rl.config import RlConfig
from factory.stages.rl.context import Continuation
from factory.stages.rl.loop import RlLoop
from factory.stages.rl.objective import Row, make_batch
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.presets import presets, resolve
from factory.stages.rl.rollouts import Rollout, Sampling
from factory.stages.rl.services import RunServices
from factory.stages.rl.transcript import TOOL

GROUP, MAX_NEW = 4, 10
BY_LENGTH = "by length"
"""The order in which the loop itself deals rollouts out."""


WRITES_ON = 32
"""Tokens that the recorded policy writes on: enough for what forced rethinking keeps."""
TEXT_BEFORE_ANSWER = {
    "caption_reason_answer": "<info> the corner {0} </info><think> {1} </think>",
    "satori": "<caption> the corner {0} </caption><bbox>[0, 0, {0}, {1}]</bbox>",
    "observe": "<observe> {0} </observe><think> {1} </think>",
    "two_pass": "<think> {0} </think><answer> {0} </answer><reflection> {1} </reflection><think> {1} </think>",
    "pack": "<think> {0} </think> <answer> {2} </answer> <think> {1} </think>",
}
"""Text of a recorded rollout by its format, from its first and last token, so that the form is kept."""

EXTRA = {
    "mirror_descent": ("grpo", {"loss": {"mirror_descent": {"tau": 0.1}}, "advantage": "group_mean"}),
    "weighted_sft": ("grpo", {"loss": "weighted_sft", "advantage": "none"}),
    "k2": ("grpo", {"kl": {"k2": {"coef": 0.04}}}),
    "abs": ("grpo", {"kl": {"abs": {"coef": 0.04}}}),
    "k3_plus": ("grpo", {"kl": {"k3_plus": {"coef": 0.04}}}),
    "luffy_split": ("luffy", {"advantage": "fresh_statistics"}),
    "lagrangian": ("grpo", {"advantage": {"lagrangian": {"part": "exact", "start": 0.5}}}),
    "pad_paper": ("revisual_pad", {"resample": {"pad_code": None, "pad_paper": {"low": 0.03, "high": 2.0, "share": 1.0}}}),
    "line_gain": ("grpo", {"token_weight": "line_gain"}),
    "staged_entropy": ("grpo", {"auxiliary": {"staged_entropy": {"easy": 0.01, "medium": 0.02, "hard": 0.03}}}),
    "kimi_length": ("grpo", {"group_reward": {"kimi_length": {"weight": 0.1, "off_until": 0.0}}}),
    "efficient_length": ("grpo", {"reward": {"efficient_length": {"budget": 5}}}),
}
"""Pieces of the gradient that are in no preset; name -> (preset, changes)."""
CASES = [*presets(), *EXTRA]


def settings_of(case: str) -> dict:
    """`preset` and `pieces` of a case."""
    preset, changes = EXTRA.get(case, (case, {}))
    return {"preset": preset, "pieces": changes}


def is_seeing(case: str) -> bool:
    """True for cases that would have nothing to do on plain text."""
    chosen = resolve(RlConfig(**settings_of(case)))
    return bool(chosen.needs() & {"masked_view", "more_generation"}) or chosen.one("format").key != "format.pack"


def written(rng: random.Random, size: int) -> list[int]:
    """Token ids of plain text: the special ones come first in the vocabulary, and an image token would stand for no image."""
    return [rng.randrange(60, 96) for _ in range(size)]


class Recorded:
    """An engine whose rollouts depend on sample and index only; old log-probs lie within 0.3 nats of the policy's."""

    def __init__(self, loaded, *, is_seeing: bool) -> None:
        self._loaded, self._is_seeing = loaded, is_seeing

    def generate(self, requests, sampling, *, seed):
        for request in requests:
            for index in range(sampling.group_size):
                rng = random.Random(f"{request.sample.id}-{index}")
                ids = [rng.randrange(5, 40) for _ in range(rng.randint(1, MAX_NEW))]
                ids = written(rng, len(ids)) if self._is_seeing else ids
                is_cut = index == sampling.group_size - 1 if self._is_seeing else len(ids) == MAX_NEW
                rollout = Rollout(request.place, index, ids, [0.0] * len(ids), not is_cut, 0, entropy=1.0)
                row = Row(request.prompt, rollout)
                rollout.logprobs = [one + rng.uniform(-0.3, 0.3) for one in self.logprobs(row)]
                yield rollout

    def logprobs(self, row):
        """The policy's own, of the completion."""
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
    """Reads every rollout in the form that the preset asks for, made from its tokens."""

    def read(self, rollout):
        form = self.chosen.one("format")
        rollout.text = self._text(form.key.partition(".")[2], rollout)
        rollout.fields = dict(form.read(rollout.text))

    def _text(self, form, rollout):
        first, last = rollout.ids[0], rollout.ids[-1]
        answer = f"<answer> {last % 3} </answer>"
        if form == "no_thinking":
            return f"{last % 3}"
        if form == "zoom":
            shown = sum(span.role == "tool" for span in rollout.spans)
            calls = [f'<think> {first} </think><zoom>{{"bbox": [0, 0, 32, {32 + first % 32}]}}</zoom>'] * (
                1 if rollout.index % 2 else shown
            )
            turns = calls if len(calls) > shown else [*calls, f"<think> {last} </think>{answer}"]
            return f"\n{TOOL[0]}shown{TOOL[1]}\n".join(turns)
        if self.chosen.has("hook.force_answer") and not rollout.finished and not rollout.spans:
            return f"<think> {first}"
        return TEXT_BEFORE_ANSWER[form].format(first, last, first % 3) + f" {answer}"


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


class RecordedServices(RunServices):
    """The run's services; what the policy would write on, or answer, depends on what it is asked alone."""

    asked = 0
    """Texts that were asked for on this process."""

    def extend(self, pairs, *, max_new_tokens, temperature, seeds):
        self.asked += len(pairs)
        return [self._continuation(sample, rollout, min(max_new_tokens, WRITES_ON)) for sample, rollout in pairs]

    def _continuation(self, sample, rollout, size):
        rng = random.Random(f"{sample.id}-{rollout.index}-{len(rollout.ids)}")
        ids = written(rng, size)
        longer = replace(rollout, ids=[*rollout.ids, *ids], logprobs=[*rollout.logprobs, *[0.0] * size], spans=[])
        found = self.engine.logprobs(Row(self.prompt(sample), longer))[-size:]
        return Continuation(ids, [one + rng.uniform(-0.3, 0.3) for one in found], True)

    def ask(self, prompts, **_):
        self.asked += len(prompts)
        return [
            f"<think> so </think><answer> {zlib.crc32(messages[-1].content.encode()) % 3} </answer>" for messages, _ in prompts
        ]


class Harness:
    """A policy, its learner and its reference, for one step of each preset that `kit` (a module with a pack) serves."""

    def __init__(self, base: Path, workdir: Path, kit: ModuleType = learnable) -> None:
        loaded, self.kit = load(base, precision="fp32"), kit
        self.learner = WatchedLearner(loaded, OptimConfig(warmup_steps=0, checkpoint_every=0), 10_000, workdir, 0)
        self.reference = OtherWeights(loaded.model)
        self.samples = kit.samples()

    def loop(self, case: str) -> RlLoop:
        """The loop of a run that is only ever asked for its first step."""
        config = RlConfig(**settings_of(case), prompts_per_step=4, group_size=GROUP, max_new_tokens=MAX_NEW, num_steps=10)
        chosen, pack = resolve(config), self.kit.pack()
        sampling = Sampling(GROUP, MAX_NEW)
        engine = Recorded(self.learner.loaded, is_seeing=self.kit is seeing)
        mixture = Mixture(pack.manifest.tasks, {}, known=pack.verifiers())
        prompts = PromptPool(self.samples)
        collector = MarkedCollector(
            learner=self.learner, engine=engine, pool=HashPool(), mixture=mixture, chosen=chosen, reference=self.reference,
            sampling=sampling, seed=0, context=self.learner.max_context,
        )  # fmt: skip
        services = RecordedServices(
            self.learner, engine, self.reference, collector.prompt, collector.verify, sampling, 0,
            demonstrations={sample.id: "blue" for sample in self.samples}, score_pairs=collector.score,
            read_rollout=collector.read,
            sample_of=lambda sample_id: chosen.one("format").render(prompts.sample_of(sample_id)),
        )  # fmt: skip
        ctx = SimpleNamespace(seed=0, build={"precision": "fp32"})
        loop = RlLoop(config, chosen, self.learner, collector, prompts, None, services, ctx)
        loop.sampler_check.is_done = True  # the recorded log-probs are off on purpose
        return loop

    def step(self, case: str, *, micro_batch_size: int = 0, order: str = BY_LENGTH) -> tuple[float, torch.Tensor]:
        """Loss and flat gradient of the first optimiser step of a preset, or of a case of `EXTRA`."""
        self.learner.optim = replace(self.learner.optim, micro_batch_size=micro_batch_size)
        self.learner.loss = self.learner.gradient = None
        loop = self.loop(case)
        ctx = loop.context(0)
        loop.collector.begin_step()
        groups = loop.credit(ctx, loop.collector.roll_out(ctx, self.samples, 0))
        rows = loop._rows(groups)
        if order != BY_LENGTH:
            random.Random(order).shuffle(rows)
        loop._complete_logprobs(rows, 0)
        loop._update(ctx, rows, 0)
        assert self.learner.gradient is not None, f"{case}: no rollout of the recording trains"
        self.asked, self.rows = loop.services.asked, rows
        return self.learner.loss, self.learner.gradient


def main(base: Path, out: Path, seeing_base: Path) -> None:
    """Every case once on this rank; the main one writes losses.json and gradients.safetensors."""
    harnesses = {False: Harness(base, out), True: Harness(seeing_base, out, seeing)}
    losses, gradients = {}, {}
    for case in CASES:
        losses[case], gradients[case] = harnesses[is_seeing(case)].step(case)
    learner = harnesses[False].learner
    if learner.is_main:
        save_file(gradients, out / "gradients.safetensors")
        (out / "losses.json").write_text(json.dumps({"world": learner.world_size, "losses": losses}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may linger after the last collective
