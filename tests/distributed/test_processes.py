"""Two real processes (torchrun, gloo) give the loss, gradients and weights of one; ZeRO gives those of DDP."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from factory.stages.metrics import read_metrics

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("small_world.py")


def launch(jobs, processes):
    """Run jobs of small_world.py, one after the other, in `processes` real processes."""
    path = Path(jobs[0]["workdir"]).parent / f"jobs-{processes}.json"
    path.write_text(json.dumps(jobs))
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    settings = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    env = {**os.environ, **settings}
    done = subprocess.run(
        [sys.executable, *runner, str(PROGRAM), str(path)], env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]


def tensors_and_figures(workdir):
    return load_file(workdir / "tensors.safetensors"), json.loads((workdir / "figures.json").read_text())


SPLITS = [(7, 1), (7, 3), (7, 0), (1, 0)]
"""(rows, micro-batch size). Of 7 rows the ranks get 4 and 3: with micro-batches of 1 the second runs a filler.
Of 1 row it gets none."""


@pytest.fixture(scope="module")
def steps(text_base, tmp_path_factory):
    """Tensors and figures of one optimiser step by (processes, rows, micro-batch size)."""
    root = tmp_path_factory.mktemp("steps")
    found = {}
    for processes, splits in ((1, [(7, 0), (1, 0)]), (2, SPLITS)):
        jobs = [
            {
                "program": "gradients", "base": str(text_base), "num_rows": rows, "micro_batch_size": size,
                "workdir": str(root / f"{processes}-{rows}-{size}"),
            }
            for rows, size in splits
        ]  # fmt: skip
        launch(jobs, processes)
        found |= {(processes, *split): tensors_and_figures(Path(job["workdir"])) for split, job in zip(splits, jobs, strict=True)}
    return found


@pytest.mark.parametrize(("rows", "micro_batch_size"), SPLITS)
def test_two_processes_equal_one(steps, rows, micro_batch_size):
    (want, (want_figures,)), (got, (figures,)) = steps[1, rows, 0], steps[2, rows, micro_batch_size]
    assert figures["tokens"] == want_figures["tokens"]
    assert figures["loss"] == pytest.approx(want_figures["loss"], rel=1e-6)
    assert figures["grad_norm"] == pytest.approx(want_figures["grad_norm"], rel=1e-5)
    assert got.keys() == want.keys() and sum(not name.startswith("weight.") for name in got) > 10
    for name in got:
        if not name.startswith("weight."):
            torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_zero_equals_ddp(text_base, tmp_path, zero_stage):
    job = {"program": "gradients", "base": str(text_base), "num_rows": 5, "micro_batch_size": 1, "num_steps": 3}
    launch([{**job, "workdir": str(tmp_path / "ddp")}], 2)
    launch([{**job, "workdir": str(tmp_path / "zero"), "zero_stage": zero_stage}], 2)
    (want, want_figures), (got, figures) = tensors_and_figures(tmp_path / "ddp"), tensors_and_figures(tmp_path / "zero")
    for ours, theirs in zip(figures, want_figures, strict=True):
        assert ours["tokens"] == theirs["tokens"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    for name in (n for n in want if n.startswith("weight.")):
        # Three Adam steps of 1e-3 at most: the weights agree to a twentieth of one step.
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=5e-5)


CPT = {"documents": 12, "batch_size": 4, "pack_length": 64, "optim": {"checkpoint_every": 2, "micro_batch_size": 1}}


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [-1, 2, 3])
def test_a_stage_resumes_in_two_processes(text_base, tmp_path, zero_stage):
    job = {"program": "run_stage", "kind": "cpt", "base": str(text_base), "zero_stage": zero_stage, "config": CPT}
    resumed = {**job, "workdir": str(tmp_path / "resumed")}
    launch([{**job, "workdir": str(tmp_path / "straight")}], 2)
    launch([{**resumed, "program": "run_until", "stop_after": 2}], 2)
    assert [path.name for path in (tmp_path / "resumed" / "checkpoints").iterdir()] == ["step-00000002"]
    launch([resumed], 2)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "resumed")]
    assert weights[0] == weights[1]
    losses = [[row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("straight", "resumed")]
    assert losses[0] == losses[1] and len(losses[0]) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_stage_resumes_with_another_number_of_processes(text_base, tmp_path, first, then):
    """The same rows in the same order, so the same weights up to rounding."""
    job = {"program": "run_stage", "kind": "cpt", "base": str(text_base), "config": CPT}
    resumed = {**job, "workdir": str(tmp_path / "resumed")}
    launch([{**job, "workdir": str(tmp_path / "straight")}], 1)
    launch([{**resumed, "program": "run_until", "stop_after": 2}], first)
    launch([resumed], then)
    want, got = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("straight", "resumed"))
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=5e-5)
    losses = [[row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("straight", "resumed")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and len(losses[0]) == 3


@pytest.mark.slow
def test_images_and_texts_train_under_zero_2(vl_base, tmp_path):
    config = {"documents": 8, "batch_size": 4, "pack_length": 128, "optim": {"checkpoint_every": 0, "micro_batch_size": 1}}
    job = {"program": "run_stage", "kind": "cpt", "base": str(vl_base), "modality": "vl", "config": config}
    launch([{**job, "workdir": str(tmp_path / "one")}], 1)
    launch([{**job, "workdir": str(tmp_path / "two"), "zero_stage": 2}], 2)
    losses = [[row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 2
