"""Stages and single steps under one ZeRO stage (or FSDP2) after another. A program: `torchrun zero_jobs.py JOBS.json`, with tests/rl on PYTHONPATH."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import small_world

OPTIM = {"lr": 1e-4, "warmup_steps": 0, "checkpoint_every": 1, "micro_batch_size": 2, "weight_decay": 0.0}
SETTINGS = {
    "cpt": {"documents": 12, "batch_size": 5, "pack_length": 64},
    "sft": {"lessons": 15, "epochs": 1, "batch_size": 5, "max_length": 128},
    "rl": {"preset": "grpo", "num_steps": 3, "samples": 4, "prompts_per_step": 3, "group_size": 3, "max_new_tokens": 6},
}
"""Batches of 5 and of 9 rows: two processes get unequal shares."""


def way_of(zero_stage: int | str) -> dict:
    """Launch settings of a ZeRO stage, or of `fsdp`."""
    return {"zero_stage": -1, "fsdp": True} if zero_stage == "fsdp" else {"zero_stage": zero_stage, "fsdp": False}


def config_of(job: dict):
    """The stage's config; an adapter where the job asks for one."""
    from factory.config.schema import AdapterConfig, OptimConfig
    from factory.plugins import load_stage

    settings = SETTINGS[job["kind"]] | job.get("settings", {})
    optim, adapter = OptimConfig(**OPTIM), AdapterConfig(**job.get("adapter", {}))
    return load_stage(job["kind"]).config_type(optim=optim, adapter=adapter, **settings)


def run_stage(job: dict) -> None:
    """Run one stage: {kind, base, workdir, zero_stage, settings, adapter, launch, precision}."""
    from factory.plugins import load_stage

    ctx = small_world.context(Path(job["workdir"]), Path(job["base"]), precision=job.get("precision", "fp32"))
    launch = {**ctx.build["launch"], **way_of(job["zero_stage"]), **job.get("launch", {})}
    ctx.build = {**ctx.build, "launch": launch, "mixture": {}, "pool": {"workers": 1, "max_error_rate": 1.0}}
    if job["kind"] == "rl":
        import learnable

        ctx.pack, ctx.domain = learnable.pack("exact"), "learnable:VERIFIERS"
    load_stage(job["kind"]).run(config_of(job), ctx)


def stop_after(job: dict) -> None:
    """`run_stage`, but the program ends (as if it were killed) right after the first checkpoint of step `stop_after`."""
    from factory.stages.learner import Learner

    save = Learner.save_checkpoint

    def save_and_stop(self, step, pieces):
        save(self, step, pieces)
        if step == job["stop_after"]:
            self.wait()
            os._exit(0)

    Learner.save_checkpoint = save_and_stop
    run_stage(job)


def gradients(job: dict) -> None:
    """One step on 5 rows dealt to the ranks; the main process writes every whole gradient."""
    from deepspeed.utils import safe_get_full_grad
    from safetensors.torch import save_file

    from factory.config.schema import OptimConfig
    from factory.stages.batches import deal
    from factory.stages.fully_sharded import whole
    from factory.stages.learner import Learner
    from factory.stages.models.load import load
    from factory.stages.objectives import Filler, TokenNLL

    loaded = load(job["base"], precision="fp32")
    optim = OptimConfig(lr=1e-4, warmup_steps=0, clip_norm=0.0)
    learner = Learner(loaded, optim, 4, Path(job["workdir"]), 0, "fp32", **way_of(job["zero_stage"]))
    kept = {}

    def keep(*_):
        for name, parameter in learner.model.named_parameters():
            gradient = safe_get_full_grad(parameter) if learner.is_deepspeed else whole(parameter.grad)
            kept[name] = gradient.detach().float().cpu().clone()

    if learner.is_deepspeed:
        step = learner._wrapped.step
        learner._wrapped.step = lambda: (keep(), step())
    else:
        learner._optimizer.optimizer.register_step_pre_hook(keep)
    rows = [loaded.codec.document(small_world.sentence(index)) for index in range(5)]
    batches = [
        Filler(loaded.codec.collate(part)) if is_filler else loaded.codec.collate(part)
        for part, is_filler in deal(rows, learner.rank, learner.world_size, 1)
    ]
    figures = learner.step(batches, TokenNLL())
    if learner.is_main:
        save_file(kept, Path(job["workdir"]) / "gradients.safetensors")
        (Path(job["workdir"]) / "figures.json").write_text(json.dumps(figures))


def main() -> None:
    """Run the `program` of each job. accelerate remembers the first job's backend for the whole process, so it is told to forget."""
    import torch
    import torch.distributed as dist
    from accelerate.state import AcceleratorState

    torch.set_num_threads(1)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        Path(job["workdir"]).mkdir(parents=True, exist_ok=True)
        {"run_stage": run_stage, "stop_after": stop_after, "gradients": gradients}[job["program"]](job)
        AcceleratorState._reset_state()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
