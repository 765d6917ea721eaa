"""One measurement of `benchmarks/gpu.py`: a stage on one base, in one or several processes. A program: `gpu_job.py JOB.json OUT.json`.

What is measured is the stage as a build runs it; only `Learner.step` is wrapped, to count tokens and seconds of the updates.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])

WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"zero_stage": -1}, "zero1": {"zero_stage": 1}, "zero2": {"zero_stage": 2}, "zero3": {"zero_stage": 3}, "fsdp": {"fsdp": True},
}  # fmt: skip


def stage_settings(job: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage is told besides optimiser and adapter."""
    rows, steps, length = job["rows"], job["steps"], 2 * job["words"] + 64 + job["image_tokens"]
    if job["kind"] == "cpt":
        return {"documents": rows * steps, "batch_size": rows, "pack_length": length}
    if job["kind"] == "sft":
        return {"lessons": rows * steps, "epochs": 1, "batch_size": rows, "max_length": length}
    if job["kind"] in ("preference", "reward_model"):
        return {
            "pairs": -(-(rows * steps) // 2) + 8,
            "epochs": 1,
            "batch_size": max(job["processes"], rows // 2),
            "max_length": length,
        }
    group = 4 if rows < 64 else 8
    prompts = max(job["processes"], rows // group)
    return {
        "preset": "grpo", "num_steps": steps, "samples": 4 * prompts, "prompts_per_step": prompts, "group_size": group,
        "max_new_tokens": max(4, job["words"] // 2),
    }  # fmt: skip


def counted_steps(device_name: str) -> list[dict[str, float]]:
    """Wrap `Learner.step`; the list fills with seconds, tokens, learned tokens and patches of this process, step by step."""
    import torch

    from factory.stages.learner import Learner
    from factory.stages.objectives import Filler

    found: list[dict[str, float]] = []
    step = Learner.step

    def wait() -> None:
        if device_name == "cuda":
            torch.cuda.synchronize()

    def counted(self: Any, micro_batches: Any, objective: Any, **more: Any) -> dict[str, float]:
        row = {"tokens": 0.0, "learned": 0.0, "patches": 0.0, "rows": 0.0}
        for batch in micro_batches:
            if isinstance(batch, Filler):
                continue
            ids = batch["input_ids"]
            row["tokens"] += float(batch["attention_mask"].sum() if "attention_mask" in batch else ids.numel())
            row["learned"] += float(batch["loss_mask"].sum())
            row["patches"] += float(batch["pixel_values"].shape[0] if "pixel_values" in batch else 0)
            row["rows"] += len(ids)
        wait()
        started = time.perf_counter()
        figures = step(self, micro_batches, objective, **more)
        wait()
        found.append(row | {"seconds": time.perf_counter() - started})
        return figures

    Learner.step = counted  # type: ignore[method-assign]
    return found


def run(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Run the stage; the figures of all processes on the main one, None elsewhere."""
    import torch
    from gpu_bases import Sizes
    from gpu_task import Words

    from factory.config.schema import AdapterConfig, OptimConfig
    from factory.contracts import DataRequest, RunContext
    from factory.plugins import load_stage
    from factory.stages.learner import Learner

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
    held: dict[str, Any] = {}
    prepare = Learner._prepare

    def keep(self: Any, model: Any) -> None:
        held.update(learner=self, sizes=Sizes.of(model))
        prepare(self, model)

    Learner._prepare = keep  # type: ignore[method-assign]
    steps, rows = counted_steps(device), []
    stage = load_stage(job["kind"])
    optim = OptimConfig(
        lr=1e-5,
        warmup_steps=0,
        checkpoint_every=0,
        micro_batch_size=job["micro_batch"],
        gradient_checkpointing=job["checkpointing"],
    )
    config = stage.config_type(optim=optim, adapter=AdapterConfig(kind=job["adapter"]), **stage_settings(job))
    workdir = Path(job["workdir"])
    workdir.mkdir(parents=True, exist_ok=True)
    build = {
        "precision": "bf16", "mixture": {}, "pool": {"workers": 1},
        "launch": {"processes": job["processes"], "zero_stage": -1, "threads": 1, **WAYS[job["way"]]},
    }  # fmt: skip
    ctx = RunContext(
        stage=job["kind"], workdir=workdir, model_dir=Path(job["base"]), pack=Words(job["words"], job["side_px"]), domain="gpu_task:VERIFIERS",
        seed=0, request=DataRequest(), build=build, log=lambda **row: rows.append(row),
    )  # fmt: skip
    stage.run(config, ctx)
    learner = held["learner"]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shares = learner.gather({"steps": steps, "peak": peak})
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"shares": shares, "rows": rows, "device": name, "sizes": vars(held["sizes"])} if learner.is_main else None


def main() -> None:
    """`gpu_job.py JOB.json OUT.json`."""
    import torch.distributed as dist

    found = run(json.loads(Path(sys.argv[1]).read_text()))
    if found is not None:
        Path(sys.argv[2]).write_text(json.dumps(found))
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
