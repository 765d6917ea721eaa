"""DeepSpeed ZeRO 1, 2 and 3 and FSDP2 on two real processes give the losses, gradients and weights of one plain process, in every stage."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import learnable
import pytest
import torch
from safetensors.torch import load_file

from factory.stages.metrics import read_metrics
from factory.stages.models.load import load
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.engines.recorded import write_recording
from factory.stages.rl.engines.transformers import TransformersEngine
from factory.stages.rl.rollouts import Request, Sampling

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("zero_jobs.py")
ZERO = (0, 1, 2, 3)
WAYS = (*ZERO, "fsdp")
CASES = [(processes, zero) for processes in (1, 2) for zero in WAYS]
KINDS = ("cpt", "sft", "rl")


def launch(jobs, processes, timeout_s=900):
    """Run jobs of zero_jobs.py one after the other in `processes` real processes (torchrun, gloo)."""
    path = Path(jobs[0]["workdir"]).with_name(f"{Path(jobs[0]['workdir']).name}-jobs.json")
    path.write_text(json.dumps(jobs))
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    search = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "rl")])
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": search,
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, *runner, str(PROGRAM), str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def rl_base(tmp_path_factory):
    """The embedded text model whose tokenizer knows the questions of `learnable`."""
    from factory.stages.models.embedded import make_embedded

    return make_embedded("embedded-text", tmp_path_factory.mktemp("rl-base"), seed=0, texts=learnable.texts())


def logprobs(loaded, prompt, ids):
    """Of each of `ids` after the prompt, under the model."""
    with torch.no_grad():
        found = loaded.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return found.gather(-1, torch.tensor(ids)[:, None]).squeeze(-1).tolist()


@pytest.fixture(scope="module")
def recording(rl_base, tmp_path_factory):
    """Three rollouts of each question, by the base; in half of them the reward differs, so there is something to learn."""
    loaded = load(rl_base, precision="fp32")
    engine = TransformersEngine(loaded)
    engine.sync(WeightSource(0, loaded.model, adapter=False))
    requests = [Request(place, s, loaded.codec.prompt(s.messages)) for place, s in enumerate(learnable.samples())]
    rollouts = sorted(engine.generate(requests, Sampling(3, 6), seed=3), key=lambda r: (r.place, r.index))
    right = [loaded.codec.tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("blue", "red")]
    for rollout in rollouts:
        # An untaught model says nothing of use: give every group one right and one wrong answer.
        if rollout.index < 2:
            rollout.ids = [*right[rollout.index], loaded.codec.chat.end_of_turn]
            rollout.logprobs, rollout.finished = logprobs(loaded, requests[rollout.place].prompt.ids, rollout.ids), True
    path = tmp_path_factory.mktemp("recording") / "rollouts.jsonl"
    write_recording(path, [(learnable.SKIES[r.place], r) for r in rollouts])
    return path


@pytest.fixture(scope="module")
def runs(text_base, rl_base, recording, tmp_path_factory):
    """(kind, processes, zero stage) -> workdir of a finished stage; `gradients` is a kind of its own."""
    root, found = tmp_path_factory.mktemp("zero"), {}
    # FSDP2 in programs of its own: accelerate keeps DeepSpeed on for the rest of a process.
    for processes, ways in product((1, 2), (ZERO, ("fsdp",))):
        jobs = []
        for zero, kind in product(ways, ("gradients", *KINDS)):
            workdir = root / f"{kind}-{processes}-{zero}"
            found[kind, processes, zero] = workdir
            job = {"program": "run_stage", "kind": kind, "base": str(rl_base if kind == "rl" else text_base)}
            job |= {"zero_stage": zero, "workdir": str(workdir)}
            job |= {"settings": {"engine": f"recorded:{recording}"}} if kind == "rl" else {}
            job |= {"program": "gradients"} if kind == "gradients" else {}
            jobs.append(job)
        launch(jobs, processes)
    return found


@pytest.mark.parametrize(("processes", "zero"), CASES)
def test_whole_gradients_are_equal(runs, processes, zero):
    want, got = (load_file(runs["gradients", *case] / "gradients.safetensors") for case in ((1, 0), (processes, zero)))
    assert got.keys() == want.keys() and len(got) > 10
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("processes", "zero"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_final_weights_are_equal(runs, text_base, rl_base, kind, processes, zero):
    want, got = (read_metrics(runs[kind, *case] / "metrics.jsonl") for case in ((1, 0), (processes, zero)))
    assert len(got) == len(want) == 3
    for ours, theirs in zip(got, want, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    start = load_file((rl_base if kind == "rl" else text_base) / "model.safetensors")
    want, got = (load_file(runs[kind, *case] / "model" / "model.safetensors") for case in ((1, 0), (processes, zero)))
    assert max(float((want[name] - start[name]).abs().max()) for name in start) > 1e-4, "the stage moved the weights"
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def straight(text_base, tmp_path_factory):
    """Workdir of the stage on one plain process, never stopped."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    launch([{"program": "run_stage", "kind": "cpt", "base": str(text_base), "zero_stage": 0, "workdir": str(workdir)}], 1)
    return workdir


def assert_equal_runs(got, want):
    """The same losses in the same number of steps, and the same final weights."""
    losses = [[row["loss"] for row in read_metrics(folder / "metrics.jsonl")] for folder in (want, got)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and len(losses[1]) == 3
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (want, got)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=0, atol=1e-5)


RESUMES = [(1, 2, 1), (2, 2, 1), (2, 1, 2), (3, 2, 1), (3, 1, 2), (3, 2, 2), ("fsdp", 2, 1), ("fsdp", 1, 2), ("fsdp", 2, 2)]


@pytest.mark.parametrize(("zero", "first", "then"), RESUMES)
def test_a_stage_stopped_under_zero_goes_on_with_another_number_of_processes(straight, text_base, tmp_path, zero, first, then):
    job = {"kind": "cpt", "base": str(text_base), "zero_stage": zero, "workdir": str(tmp_path / "resumed")}
    launch([{**job, "program": "stop_after", "stop_after": 2}], first)
    assert [path.name for path in (tmp_path / "resumed" / "checkpoints").iterdir()] == ["step-00000002"]
    launch([{**job, "program": "run_stage"}], then)
    assert_equal_runs(tmp_path / "resumed", straight)


@pytest.mark.parametrize(("zero", "template"), [(2, "zero2-offload"), (3, "zero3-offload")])
def test_an_optimiser_in_the_machines_memory_trains_and_resumes_alike(straight, text_base, tmp_path, zero, template):
    job = {"kind": "cpt", "base": str(text_base), "zero_stage": zero, "workdir": str(tmp_path / "resumed")}
    job["launch"] = {"deepspeed": template}
    launch([{**job, "program": "stop_after", "stop_after": 2}], 1)
    launch([{**job, "program": "run_stage"}], 1)
    assert_equal_runs(tmp_path / "resumed", straight)


@pytest.mark.parametrize(("first", "then"), [(3, "fsdp"), ("fsdp", 2)])
def test_zero_and_fsdp_take_up_each_others_checkpoints(straight, text_base, tmp_path, first, then):
    job = {"kind": "cpt", "base": str(text_base), "workdir": str(tmp_path / "resumed")}
    launch([{**job, "program": "stop_after", "stop_after": 2, "zero_stage": first}], 2)
    launch([{**job, "program": "run_stage", "zero_stage": then}], 2)
    assert_equal_runs(tmp_path / "resumed", straight)


@pytest.mark.parametrize("kind", ["cpt", "sft"])
def test_an_adapter_on_a_base_in_bf16_trains_under_fsdp(text_base, tmp_path, kind):
    """Frozen weights in bf16 and trained ones in fp32 in one block; the adapter's folder is the one of a plain process."""
    job = {
        "program": "run_stage",
        "kind": kind,
        "base": str(text_base),
        "precision": "bf16",
        "adapter": {"kind": "lora", "rank": 4},
    }
    launch([{**job, "zero_stage": 0, "workdir": str(tmp_path / "plain")}], 1)
    launch([{**job, "zero_stage": "fsdp", "workdir": str(tmp_path / "split")}], 2)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("plain", "split")]
    for ours, theirs in zip(*rows, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2) and ours["tokens"] == theirs["tokens"]
    files = [sorted(path.name for path in (tmp_path / name / "model").iterdir()) for name in ("plain", "split")]
    assert files[0] == files[1]
    for name in files[0]:
        if name.endswith(".json"):
            one, other = ((tmp_path / way / "model" / name).read_text() for way in ("plain", "split"))
            assert one.replace(str(tmp_path / "plain"), "") == other.replace(str(tmp_path / "split"), ""), name
    weights = [load_file(tmp_path / way / "model" / "adapter_model.safetensors") for way in ("plain", "split")]
    assert weights[0].keys() == weights[1].keys() and all(weights[0][n].shape == weights[1][n].shape for n in weights[0])
