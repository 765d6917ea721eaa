"""A real `factory build` under ZeRO, killed with all its processes in a stage, goes on with another number of processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from factory.stages.metrics import read_metrics

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STEPS = 6
SMALL = (
    "stages.sft=null", "stages.rl=null", "stages.cpt.documents=48", "stages.cpt.batch_size=8", "stages.cpt.optim.checkpoint_every=1",
    "stages.cpt.optim.warmup_steps=0", "eval.samples=4", "eval.validation_samples=2", "eval.max_new_tokens=4",
)  # fmt: skip
LIMIT_S = 1800


def start(home: Path, processes: int, split: str) -> subprocess.Popen:
    """The build, in a session of its own, with its words in `home`/said.txt."""
    way = {"zero": ("launch.zero_stage=2",), "fsdp": ("launch.fsdp=true",)}[split]
    settings = [word for setting in (*SMALL, *way, f"launch.processes={processes}") for word in ("--set", setting)]
    words = ["build", "--domain", "music", "--recipe", "embedded-quick", "--run", "r", *settings]
    environment = {**os.environ, "FACTORY_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (home / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-c", "from factory.cli.app import main; main()", *words],
            env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def finish(home: Path, processes: int, split: str) -> Path:
    """The finished stage's folder."""
    build = start(home, processes, split)
    assert build.wait(LIMIT_S) == 0, (home / "said.txt").read_text()[-3000:]
    return home / "runs" / "r" / "stages" / "02-cpt"


def is_worker(process: psutil.Process) -> bool:
    """One that does a job: started for it, or a fork of the server that waits for jobs."""
    words, parents = (" ".join(one.cmdline()) for one in (process, process.parent()))
    if "factory.launch.forks" in words:
        return "factory.launch.forks" in parents
    return "factory.pipeline.worker" in words and "torch" not in words


def kill_in_the_middle(home: Path, processes: int, split: str) -> int:
    """Kill everything the build started once a checkpoint is there; the number of worker processes that were killed."""
    build = start(home, processes, split)
    checkpoints = home / "runs" / "r" / "stages" / "02-cpt.partial" / "checkpoints"
    deadline = time.monotonic() + LIMIT_S
    while not list(checkpoints.glob("step-0000000[2-4]")):
        assert build.poll() is None and time.monotonic() < deadline, (home / "said.txt").read_text()[-3000:]
        time.sleep(0.02)
    found = [build_process := psutil.Process(build.pid), *build_process.children(recursive=True)]
    workers = [one for one in found if is_worker(one)]
    for one in found:
        one.send_signal(signal.SIGKILL)
    build.wait(60)
    assert list(checkpoints.glob("step-*")), "the stage was not over"
    return len(workers)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The stage's folder of a build that was left alone, on one process."""
    return finish(tmp_path_factory.mktemp("straight"), 1, "zero")


@pytest.fixture
def home(straight, tmp_path):
    """A copy of that build as it was before its training stage: base and base eval are done and not made again."""
    copy = tmp_path / "home"
    shutil.copytree(straight.parents[3], copy, symlinks=True)
    for step in (copy / "runs" / "r" / "stages").glob("0[23]-*"):
        shutil.rmtree(step)
    (copy / "runs" / "r" / "result.json").unlink()
    return copy


@pytest.mark.parametrize(("split", "first", "then"), [("zero", 2, 1), ("zero", 1, 2), ("fsdp", 2, 1)])
def test_a_killed_build_goes_on_with_another_number_of_processes(straight, home, split, first, then):
    assert kill_in_the_middle(home, first, split) == first
    stage = finish(home, then, split)
    resumed = set(re.findall(r"resumed at step ([0-9]+) of", (stage / "log.txt").read_text()))
    assert len(resumed) == 1 and 2 <= int(resumed.pop()) < STEPS, "it went on from a checkpoint"
    losses = [[row["loss"] for row in read_metrics(folder / "metrics.jsonl")] for folder in (straight, stage)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and len(losses[1]) == STEPS
    want, got = (load_file(folder / "model" / "model.safetensors") for folder in (straight, stage))
    apart = torch.cat([(got[name] - want[name]).abs().flatten() for name in want])
    # Six Adam steps: the weights agree to rounding. Adam divides a gradient by its size, so where one is about zero its rounding shows.
    assert float((apart > 2e-5).float().mean()) < 1e-4 and float(apart.max()) < 1e-4, (apart.max(), (apart > 2e-5).sum())
