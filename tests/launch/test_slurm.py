"""A real Slurm of two nodes: a build is queued, preempted in the middle, queues itself again, and ends as the local build ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.launch.nodes import free_port

from . import conftest as slurm_here

ROOT = Path(__file__).parents[2]
SMALL = {
    "eval.samples": 16, "eval.validation_samples": 8, "eval.bootstrap": 100, "eval.blind": "false", "eval.probes": "false",
    "stages.cpt.documents": 800, "stages.sft.lessons": 32, "stages.sft.epochs": 2,
    "stages.rl.num_steps": 2, "stages.rl.samples": 16, "stages.rl.prompts_per_step": 2, "stages.rl.group_size": 4,
    "stages.rl.max_new_tokens": 24,
}  # fmt: skip
"""The recipe's stages, cut to some steps each; pretraining is long enough for a signal to find it."""
BUILD = [
    "build",
    "--domain",
    "music",
    "--recipe",
    "embedded",
    "--run",
    "r",
    *(f"--set={key}={value}" for key, value in SMALL.items()),
]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurm_here.why_not()), reason=slurm_here.why_not() or "Slurm is here")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    program = folder / "bin" / "factory"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/bash\nexport PYTHONPATH={ROOT} OMP_NUM_THREADS=1\nexec {sys.executable} -c "from factory.cli.app import main; main()" "$@"\n'
    )
    program.chmod(0o755)
    try:
        conf = slurm_here.start(folder, [free_port() for _ in range(3)])
        path = f"{program.parent}:{os.environ['PATH']}"
        yield {**os.environ, "SLURM_CONF": str(conf), "PYTHONPATH": str(ROOT), "PATH": path, "FACTORY_HOME": str(folder / "home")}
    finally:
        slurm_here.stop(folder)


def factory(env, *words):
    ended = subprocess.run(["factory", *words], env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


def waited(env, number, path, seconds=900):
    """Until the job has ended or `path` has content; True for the latter."""
    for _ in range(seconds * 2):
        if path is not None and path.is_file() and path.stat().st_size:
            return True
        told = subprocess.run(["scontrol", "-o", "show", "job", number], env=env, capture_output=True, text=True).stdout
        if not told or any(f"JobState={state}" in told for state in ENDED):
            return False
        time.sleep(0.5)
    raise AssertionError(f"job {number} did not end")


def test_doctor_asks_both_nodes_through_srun(cluster):
    told = json.loads(factory(cluster, "doctor", "--cluster", "--nodes", "2", "--json"))
    assert told["ready"] and told["nodes"] == 2
    found = {row["check"]: row["found"] for row in told["findings"]}
    assert "2 processes, gloo" in found["all-reduce"] and "every node reads" in found["shared storage"]


def test_a_job_is_preempted_requeued_and_equals_the_local_build(cluster, tmp_path):
    factory({**cluster, "FACTORY_HOME": str(tmp_path)}, *BUILD, "--set", "launch.processes=2")
    factory(cluster, "submit", "--cluster", "slurm", "--nodes", "2", "--name", "t", "--env", "SLURM_CONF", "--", *BUILD)
    home = Path(cluster["FACTORY_HOME"])
    number = json.loads((home / "jobs" / "t" / "job.json").read_text())["number"]
    [row] = json.loads(factory(cluster, "jobs", "list", "--json"))
    assert row["name"] == "t" and row["state"] in ("PENDING", "RUNNING")
    metrics = home / "runs" / "r" / "stages" / "02-cpt.partial" / "metrics.jsonl"
    assert waited(cluster, number, metrics), "the job ended before its first training step:\n" + factory(
        cluster, "jobs", "logs", "t"
    )
    subprocess.run(["scancel", "--signal=USR1", number], env=cluster, check=True)
    assert not waited(cluster, number, None)
    log = next((home / "jobs" / "t").glob("*.log")).read_text()
    assert "factory ended with 75" in log and "factory ended with 0" in log and "attempt 1" in log, log[-3000:]
    told = {path.parent.name: path.read_text() for path in (home / "runs/r/stages").glob("*/log.txt")}
    assert [name for name, text in told.items() if "as asked; a checkpoint of it is on disk" in text] == ["02-cpt"], list(told)
    for stage in ("02-cpt", "04-sft", "06-rl"):
        one, other = (
            (root / "runs" / "r" / "stages" / stage / "model" / "model.safetensors").read_bytes() for root in (home, tmp_path)
        )
        assert one == other, stage
    one, other = (json.loads((root / "runs" / "r" / "result.json").read_text()) for root in (home, tmp_path))
    assert (one["chosen"], one["rule"]) == (other["chosen"], other["rule"])
