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


def launch(job, workdir, processes):
    """Run a job of small_world.py in `processes` real processes."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "job.json"
    path.write_text(json.dumps({**job, "workdir": str(workdir)}))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else [sys.executable]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*start, str(PROGRAM), str(path)], env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]


def tensors_and_figures(workdir):
    return load_file(workdir / "tensors.safetensors"), json.loads((workdir / "figures.json").read_text())


@pytest.fixture(scope="module")
def one(text_base, tmp_path_factory):
    """One process, seven rows of unequal length in one micro-batch."""
    workdir = tmp_path_factory.mktemp("one")
    launch({"program": "gradients", "base": str(text_base), "num_rows": 7, "micro_batch_size": 0}, workdir, 1)
    return tensors_and_figures(workdir)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_two_processes_equal_one(text_base, tmp_path, one, micro_batch_size):
    # 4 + 3 rows: with micro-batches of 1 the second process runs a filler, with 3 it has one micro-batch and a filler
    launch({"program": "gradients", "base": str(text_base), "num_rows": 7, "micro_batch_size": micro_batch_size}, tmp_path, 2)
    (want, (want_figures,)), (got, (figures,)) = one, tensors_and_figures(tmp_path)
    assert figures["tokens"] == want_figures["tokens"]
    assert figures["loss"] == pytest.approx(want_figures["loss"], rel=1e-6)
    assert figures["grad_norm"] == pytest.approx(want_figures["grad_norm"], rel=1e-5)
    assert got.keys() == want.keys() and sum(not name.startswith("weight.") for name in got) > 10
    for name in got:
        if not name.startswith("weight."):
            torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


def test_more_processes_than_rows(text_base, tmp_path):
    launch({"program": "gradients", "base": str(text_base), "num_rows": 1, "micro_batch_size": 0}, tmp_path / "two", 2)
    launch({"program": "gradients", "base": str(text_base), "num_rows": 1, "micro_batch_size": 0}, tmp_path / "one", 1)
    (got, (figures,)), (want, (want_figures,)) = tensors_and_figures(tmp_path / "two"), tensors_and_figures(tmp_path / "one")
    assert figures["loss"] == pytest.approx(want_figures["loss"], rel=1e-6)
    name = max((n for n in want if not n.startswith("weight.")), key=lambda n: want[n].abs().max())
    torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_zero_equals_ddp(text_base, tmp_path, zero_stage):
    job = {"program": "gradients", "base": str(text_base), "num_rows": 5, "micro_batch_size": 1, "num_steps": 3}
    launch(job, tmp_path / "ddp", 2)
    launch({**job, "zero_stage": zero_stage}, tmp_path / "zero", 2)
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
    launch(job, tmp_path / "straight", 2)
    launch({**job, "program": "run_until", "stop_after": 2}, tmp_path / "resumed", 2)
    assert [path.name for path in (tmp_path / "resumed" / "checkpoints").iterdir()] == ["step-00000002"]
    launch(job, tmp_path / "resumed", 2)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "resumed")]
    assert weights[0] == weights[1]
    losses = [[row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("straight", "resumed")]
    assert losses[0] == losses[1] and len(losses[0]) == 3


@pytest.mark.slow
def test_images_and_texts_train_under_zero_2(vl_base, tmp_path):
    config = {"documents": 8, "batch_size": 4, "pack_length": 128, "optim": {"checkpoint_every": 0, "micro_batch_size": 1}}
    job = {"program": "run_stage", "kind": "cpt", "base": str(vl_base), "modality": "vl", "config": config}
    launch(job, tmp_path / "one", 1)
    launch({**job, "zero_stage": 2}, tmp_path / "two", 2)
    losses = [[row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 2
