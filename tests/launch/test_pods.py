"""The command of the pods, run here as two processes with the variables that the manifest and the job controllers set."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.launch.kubernetes import Cluster, manifests
from factory.launch.submission import POD, Submission

ROOT = Path(__file__).parents[2]
BUILD = ("build", "--domain", "music", "--recipe", "embedded-quick", "--run", "r")
SHORT_EVAL = {"samples": 4, "validation_samples": 2, "max_new_tokens": 4}
LONGER = (
    "--set=stages.cpt.documents=256",
    "--set=stages.sft=null",
    "--set=stages.rl=null",
    *(f"--set=eval.{key}={value}" for key, value in SHORT_EVAL.items()),
)
"""One stage of some more steps, to be stopped in the middle of."""
STAGES = ("02-cpt", "04-sft", "06-rl")

pytestmark = pytest.mark.slow


def documents(workload, name, *more):
    job = Submission((*BUILD, *more), Path("/home"), name, nodes=2, container=POD, image="lab/factory:1", grace_s=120)
    return manifests(job, Cluster(workload=workload))


def pod(found, index, folder):
    """(words, environment) of the pod with that completion index, with folders of this machine in place of its volumes."""
    last = found[-1]
    name = last["metadata"]["name"]
    if last["kind"] == "TrainJob":
        holder, count = last["spec"]["trainer"], last["spec"]["trainer"]["numNodes"]
        # What Kubeflow Trainer's torch policy adds to the container `node`.
        set_there = {"PET_NNODES": str(count), "PET_NPROC_PER_NODE": "auto", "PET_NODE_RANK": str(index),
                     "PET_MASTER_ADDR": f"{name}-node-0-0.{name}", "PET_MASTER_PORT": "29400"}  # fmt: skip
    else:
        holder, set_there = last["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0], {}
    index_path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    env = dict(set_there)
    for row in holder["env"]:
        env[row["name"]] = row["value"] if "value" in row else {index_path: str(index)}[row["valueFrom"]["fieldRef"]["fieldPath"]]
    own = folder / f"pod-{index}"
    own.mkdir(exist_ok=True)
    places = {"/factory": str(folder / "volume"), "/tmp": str(own), f"{name}-node-0-0.{name}": "127.0.0.1"}
    for key, value in env.items():
        for there, here in places.items():
            if value == there or value.startswith(f"{there}/"):
                env[key] = here + value[len(there) :]
    return [*holder["command"], *holder["args"]], env


def start(found, index, folder):
    program = folder / "bin" / "factory"
    if not program.exists():  # a shell that reads it while it is written anew finds it empty, and ends
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/bash\nexport PYTHONPATH={ROOT}\nexec {sys.executable} -c "from factory.cli.app import main; main()" "$@"\n'
        )
        program.chmod(0o755)
    words, env = pod(found, index, folder)
    with (folder / f"pod-{index}.log").open("ab") as log:
        path = f"{program.parent}:{os.environ['PATH']}"
        return subprocess.Popen([str(program), *words[1:]], env={"PATH": path, **env}, stdout=log, stderr=subprocess.STDOUT)


def ended(pods, folder, seconds=2400):
    try:
        return [one.wait(seconds) for one in pods]
    except subprocess.TimeoutExpired:
        pytest.fail("".join(f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(folder.glob("*.log"))))
    finally:
        for one in pods:
            one.kill()


def assert_complete(folder, stages=STAGES):
    for stage in stages:
        assert (folder / "volume" / "runs" / "r" / "stages" / stage / "model" / "model.safetensors").is_file(), stage
    assert (folder / "volume" / "runs" / "r" / "result.json").is_file()


def test_the_pods_of_a_train_job_complete_a_build(tmp_path):
    found = documents("trainjob", "pods-a")
    pods = [start(found, index, tmp_path) for index in (1, 0)]
    assert ended(pods, tmp_path) == [0, 0], (tmp_path / "pod-0.log").read_text()[-3000:]
    assert_complete(tmp_path)
    assert (tmp_path / "pod-0" / "factory-node.alive").is_file() and (tmp_path / "pod-1" / "factory-node.alive").is_file()


def test_a_drained_pod_lets_the_build_make_room_and_the_next_pods_finish_it(tmp_path):
    """Kubernetes sends SIGTERM to one pod; all pods are started again, as the JobSet does after exit 75."""
    found = documents("jobset", "pods-b", *LONGER)
    pods = [start(found, index, tmp_path) for index in (1, 0)]
    metrics = tmp_path / "volume" / "runs" / "r" / "stages" / "02-cpt.partial" / "metrics.jsonl"
    for _ in range(9000):
        if metrics.is_file() and metrics.stat().st_size:
            break
        time.sleep(0.1)
    else:
        pytest.fail("no training step within 15 minutes:\n" + (tmp_path / "pod-0.log").read_text()[-3000:])
    pods[0].send_signal(signal.SIGTERM)
    codes = ended(pods, tmp_path)
    assert codes[1] == 75, (codes, (tmp_path / "pod-0.log").read_text()[-3000:])
    log = tmp_path / "volume" / "runs" / "r" / "stages" / "02-cpt.partial" / "log.txt"
    assert "node 1 has to go" in log.read_text()
    pods = [start(found, index, tmp_path) for index in (1, 0)]
    assert ended(pods, tmp_path) == [0, 0], (tmp_path / "pod-0.log").read_text()[-3000:]
    assert_complete(tmp_path, STAGES[:1])
