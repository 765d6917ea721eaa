"""A small pack, bases and stage runs for the training tests. Also a program: `torchrun small_world.py JOBS.json`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np

from factory.contracts import DataRequest, Document, Lesson, Manifest, Media, Message, RunContext, Sample

WORDS = ("red", "blue", "green", "round", "flat", "long", "old", "new")
LAUNCH = {"processes": 1, "zero_stage": -1, "threads": 1}


def png(seed: int) -> Media:
    """A 64 x 64 picture of one colour with noise."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.integers(0, 256, 3) + rng.integers(-20, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def sentence(index: int) -> str:
    """Texts of different lengths (1 to 4 clauses)."""
    words = [WORDS[(index * step) % len(WORDS)] for step in (1, 3, 5)]
    return " and ".join([f"the {words[0]} thing is {words[1]} not {words[2]}"] * (1 + index % 4))


class SmallPack:
    """Deterministic documents and lessons; with images every third document and every second lesson has a picture."""

    def __init__(self, modality: str = "text") -> None:
        self.modality = modality
        self.manifest = Manifest("small", "Small", "1", "Apache-2.0", "tests", "anything else", modality=modality)

    def corpus(self, split: str, seed: int, request: DataRequest):
        for index in range(request.limit or 100):
            with_image = self.modality == "vl" and index % 3 == 0
            text = "<image>" + sentence(index) if with_image else sentence(index)
            yield Document(f"d{index}", text, (png(index),) if with_image else ())

    def lessons(self, split: str, seed: int, request: DataRequest):
        for index in range(request.limit or 100):
            with_image = self.modality == "vl" and index % 2 == 0
            ask = f"what is {WORDS[index % 8]} ?"
            sample = Sample(
                f"s{index}", "ask", (Message("user", "<image>" + ask if with_image else ask),), WORDS[index % 8],
                media=(png(index),) if with_image else (),
            )  # fmt: skip
            yield Lesson(sample, sentence(index))


def make_base(folder: Path, modality: str) -> Path:
    """An embedded base whose tokenizer knows the pack's words."""
    from factory.stages.models.embedded import make_embedded

    images = [png(i) for i in range(4)] if modality == "vl" else []
    return make_embedded(f"embedded-{modality}", folder, seed=1, texts=[sentence(i) for i in range(40)], images=images)


def context(workdir: Path, base: Path, *, modality: str = "text", zero_stage: int = -1, precision: str = "fp32") -> RunContext:
    """What the pipeline hands to a stage; `log` writes metrics.jsonl in the workdir."""
    from factory.stages.metrics import append_metrics

    workdir.mkdir(parents=True, exist_ok=True)
    return RunContext(
        stage="train", workdir=workdir, model_dir=base, pack=SmallPack(modality), domain="small", seed=3, request=DataRequest(),
        build={"precision": precision, "launch": {**LAUNCH, "zero_stage": zero_stage}},
        log=lambda **row: append_metrics(workdir / "metrics.jsonl", row),
    )  # fmt: skip


def stage_config(kind: str, **settings):
    """Config of a stage; `optim` is given as a mapping."""
    from factory.config.schema import AdapterConfig, OptimConfig
    from factory.stages.cpt.config import CptConfig
    from factory.stages.sft.config import SftConfig

    optim = OptimConfig(**{"lr": 2e-3, "warmup_steps": 2, **settings.pop("optim", {})})
    adapter = AdapterConfig(**settings.pop("adapter", {}))
    return {"cpt": CptConfig, "sft": SftConfig}[kind](optim=optim, adapter=adapter, **settings)


def run_stage(job: dict) -> None:
    """Run one stage: {kind, base, workdir, modality, zero_stage, config}."""
    import torch

    from factory.plugins import load_stage

    torch.set_num_threads(1)
    settings = {"modality": job.get("modality", "text"), "zero_stage": job.get("zero_stage", -1)}
    ctx = context(Path(job["workdir"]), Path(job["base"]), **settings)
    load_stage(job["kind"]).run(stage_config(job["kind"], **job["config"]), ctx)


def run_until(job: dict) -> None:
    """`run_stage`, but the program ends (without cleaning up) right after the checkpoint of step `stop_after`."""
    import os

    from factory.stages.learner import Learner

    save = Learner.save_checkpoint_if_due

    def save_and_stop(self, step, pieces):
        save(self, step, pieces)
        if step == job["stop_after"]:
            self.wait()
            os._exit(0)

    Learner.save_checkpoint_if_due = save_and_stop
    run_stage(job)


def gradients(job: dict) -> None:
    """One step on rows of unequal length, dealt to the ranks; the main rank saves loss, norm and every gradient."""
    import torch
    from safetensors.torch import save_file

    from factory.config.schema import OptimConfig
    from factory.stages.batches import deal
    from factory.stages.learner import Learner
    from factory.stages.models.load import load
    from factory.stages.objectives import Filler, TokenNLL

    torch.set_num_threads(1)
    loaded = load(job["base"], precision="fp32")
    optim = OptimConfig(lr=1e-3, warmup_steps=0, clip_norm=0.0)
    learner = Learner(loaded, optim, 4, Path(job["workdir"]), 0, "fp32", zero_stage=job.get("zero_stage", -1))
    kept: dict[str, torch.Tensor] = {}
    if not learner.is_deepspeed:
        named = dict(learner.model.named_parameters())
        learner._optimizer.optimizer.register_step_pre_hook(
            lambda *_: kept.update({name: p.grad.clone() for name, p in named.items() if p.grad is not None})
        )
    rows = [loaded.codec.document(sentence(index)) for index in range(job["num_rows"])]
    batches = [
        Filler(loaded.codec.collate(part)) if is_filler else loaded.codec.collate(part)
        for part, is_filler in deal(rows, learner.rank, learner.world_size, job["micro_batch_size"])
    ]
    figures = [learner.step(batches, TokenNLL()) for _ in range(job.get("num_steps", 1))]
    with learner._whole_weights():
        if learner.is_main:
            kept |= {f"weight.{name}": p.detach().clone() for name, p in learner.model.named_parameters()}
            save_file({name: t.contiguous() for name, t in kept.items()}, Path(job["workdir"]) / "tensors.safetensors")
            (Path(job["workdir"]) / "figures.json").write_text(json.dumps(figures))


PROGRAMS = {"run_stage": run_stage, "run_until": run_until, "gradients": gradients}


def main() -> None:
    """`small_world.py JOBS.json`: run the `program` of each job, one after the other."""
    for job in json.loads(Path(sys.argv[1]).read_text()):
        Path(job["workdir"]).mkdir(parents=True, exist_ok=True)
        PROGRAMS[job["program"]](job)
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
