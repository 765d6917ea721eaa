"""A pack whose verifiers misbehave on the guilty rollouts only, and one real RL step over recorded rollouts of it.

Every question has three recorded answers: `red` (scored 0), `green` (scored 1) and `blue`. A sample with a deed is judged by
`hostile`, which does the deed on `blue` and scores the others. A sample with a saying has the text of its `blue` rollout replaced
by the saying before the real verifiers see it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from patience import patience

from factory.config.schema import OptimConfig
from factory.contracts import DataRequest, Manifest, Message, RunContext, Sample, Status, Verdict
from factory.rewards.verifiers import ClosedAnswer, FormatVerifier, OptionLetter
from factory.stages.rl.pieces.piece import piece

WORDS = ("red", "green", "blue")
OPTIONS = {"A": "no", "B": "yes", "C": "both", "D": "neither"}


@dataclass(frozen=True)
class Hostile:
    """Does the sample's deed on `blue`; a plain verdict otherwise."""

    name: str = "hostile"
    version: str = "1"

    def __call__(self, completion, sample):
        said = completion.strip()
        if said == "blue" and sample.meta.get("deed"):
            import deeds  # in the worker only

            return deeds.DEEDS[sample.meta["deed"]][0](completion, sample)
        return Verdict(float(said == "green"), Status.ok if said == "green" else Status.wrong, f"said {said[:20]}")


@dataclass(frozen=True)
class Witness:
    """Says what a call finds in its worker."""

    name: str = "witness"
    version: str = "1"

    def __call__(self, completion, sample):
        import decimal
        import gc
        import os
        import random
        import resource
        import signal
        import sys

        print("seen")
        facts = {
            "length": len("abc"), "random": random.random(), "environment": len(os.environ), "trace": sys.gettrace(),
            "folder": Path(os.getcwd()).name[:13], "recursion": sys.getrecursionlimit(), "collects": gc.isenabled(),
            "alarm": str(signal.getsignal(signal.SIGALRM)), "timer": signal.getitimer(signal.ITIMER_REAL),
            "mask": str(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "precision": decimal.getcontext().prec, "opens": str(open), "path": len(sys.path),
        }  # fmt: skip
        return Verdict(1.0, Status.ok, json.dumps(facts))


VERIFIERS = {
    "hostile": Hostile(),
    "witness": Witness(),
    "letter": OptionLetter(name="letter"),
    "closed": ClosedAnswer(name="closed"),
    "format": FormatVerifier(),
}


def deed_samples(names):
    """One question for each deed."""
    return [_sample(name, "deed", "", deed=name) for name in names]


def saying_samples(names):
    """One question for each saying."""
    return [_sample(name, "saying", "B", saying=name, options=OPTIONS) for name in names]


def _sample(name, task, reference, **meta):
    return Sample(id=name, task=task, messages=(Message("user", "the sky is"),), reference=reference, meta=meta)


def pack(samples):
    """A DomainPack in the parts that RL touches."""
    tasks = {
        "deed": {"verifiers": {"hostile": 1.0}, "gate": None, "title": "Deeds"},
        "saying": {"verifiers": {"letter": 1.0, "closed": 1.0, "format": 0.5}, "gate": None, "title": "Sayings"},
    }
    manifest = Manifest(
        name="hostile", title="Hostile", version="1", license="MIT", intended_use="tests", not_for="else", tasks=tasks,
    )  # fmt: skip

    def given(split="train", seed=0, request=None):
        return samples

    return SimpleNamespace(manifest=manifest, samples=given, lessons=lambda *_, **__: [], verifiers=lambda: VERIFIERS)


@piece("hook", "say_hostile_things", formula="text := saying", source="tests")
@dataclass(frozen=True)
class SayHostileThings:
    """Put the sample's saying in the place of its last rollout's text."""

    when: str = "before_reward"

    def apply(self, ctx, groups):
        from sayings import SAYINGS

        for group in groups:
            if "saying" in group.sample.meta:
                group.rollouts[-1].text = SAYINGS[group.sample.meta["saying"]]


def make_base(folder: Path) -> Path:
    """A tiny untrained model folder."""
    from factory.stages.models.embedded import make_embedded

    return make_embedded("embedded-text", folder, seed=0, texts=[f"the sky is {word}" for word in WORDS] * 20)


def record(base: Path, samples, path: Path) -> Path:
    """Three rollouts of each question with the log-probs that the model gives them."""
    import torch

    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load

    loaded = load(base, precision="fp32")
    rows = [loaded.codec.lesson(samples[0].messages, word) for word in WORDS]
    with torch.no_grad():
        logprobs = token_logprobs(loaded.model, loaded.codec.collate(rows))[0]
    spoken = []
    for row, found in zip(rows, logprobs.tolist(), strict=True):
        ids = [token for token, is_own in zip(row.ids, row.loss_mask, strict=True) if is_own]
        own = [value for value in found if value != 0.0]
        assert len(own) == len(ids)
        spoken.append({"ids": ids, "logprobs": own, "finished": True, "version": 0, "entropy": None})
    lines = [json.dumps({"sample": sample.id} | row) for sample in samples for row in spoken]
    path.write_text("\n".join(lines))
    return path


def run_step(base: Path, workdir: Path, samples, *, group_size=3, hooks=(), stages=None, **pool):
    """One GRPO step over all samples. Returns (weights folder, logged row, Outputs, {sample: [Rollout]})."""
    from factory.stages.rl.assemble import assembled
    from factory.stages.rl.config import RlConfig

    workdir.mkdir()
    recording = record(base, samples, workdir / "recording.jsonl")
    config = RlConfig(
        preset="grpo", num_steps=1, samples=len(samples), prompts_per_step=len(samples), group_size=group_size,
        max_new_tokens=6, engine=f"recorded:{recording}",
        optim=OptimConfig(lr=1e-2, warmup_steps=0, weight_decay=0.0, checkpoint_every=0),
        pieces={"hook": {name: {} for name in hooks}} if hooks else {},
    )  # fmt: skip
    settings = {"workers": 2, "timeout_s": patience(3.0), "memory_mib": 256, "max_error_rate": 1.0} | pool
    ctx = RunContext(
        stage="rl", workdir=workdir, model_dir=base, pack=pack(samples), domain="hostile_kit:VERIFIERS", seed=7,
        request=DataRequest(), build={"precision": "fp32", "mixture": {}, "launch": {}, "pool": settings},
    )  # fmt: skip
    with assembled(config, ctx) as loop:
        collected, figures = loop.step(0)
        weights = {name: value.detach().clone() for name, value in loop.learner.model.named_parameters()}
        counts = loop.collector.pool.counts()
    groups = {group.sample.id: group.rollouts for group in collected.drawn}
    return SimpleNamespace(weights=weights, figures=figures, groups=groups, counts=counts)


def polite(sample):
    """The same sample without its deed."""
    return replace(sample, meta={key: value for key, value in sample.meta.items() if key != "deed"})
