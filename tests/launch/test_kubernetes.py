"""Kubernetes manifests and the SkyPilot task: what the published schemas allow, complete, without any secret; kubectl gets what it should."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from factory.errors import ConfigError, FactoryError
from factory.launch import kubectl, kubernetes, skypilot
from factory.launch.kubernetes import Cluster, manifests
from factory.launch.submission import POD, Submission

from .schemas_here import VERSIONS, complaints, sky_complaints

ROOT = Path(__file__).parents[2]
BUILD = ("build", "--domain", "music")
FULL = {
    "nodes": 2,
    "gpus": 8,
    "processes": 8,
    "cpus": 4,
    "memory": "512G",
    "env": ("HF_TOKEN",),
    "partition": "team-a",
    "grace_s": 300,
}
FULL_CLUSTER = {"namespace": "lab", "home_size": "500Gi", "storage_class": "nfs", "data_claim": "scans", "secret": "keys", "pull_secret": "pull",
                "node_labels": ("nvidia.com/gpu.product=H100",)}  # fmt: skip


def made(cluster=None, **fields):
    job = Submission(
        **{"command": BUILD, "home": Path("/home"), "name": "t", "container": POD, "image": "lab/factory:1"} | fields
    )
    return manifests(job, Cluster(**cluster or {}))


def kinds(found):
    return [document["kind"] for document in found]


def job_set_of(document):
    return document["spec"] if document["kind"] == "JobSet" else document["spec"]["template"]["spec"]


def pod_of(document):
    return job_set_of(document)["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("workload", ["trainjob", "jobset"])
@pytest.mark.parametrize(("fields", "cluster"), [({}, {}), (FULL, FULL_CLUSTER), ({"seeds": (1, 2)}, {})])
def test_manifests_fit_the_published_schemas(workload, fields, cluster, version):
    found = made({"workload": workload} | cluster, **fields)
    assert [(document["kind"], complaints(document, version)) for document in found] == [
        (document["kind"], []) for document in found
    ]
    assert list(yaml.safe_load_all(kubernetes.to_yaml(found))) == found


def test_the_schemas_refuse_what_is_wrong():
    """Or the test above could not fail."""
    [runtime, train_job] = made()
    for spoil, document in (
        (lambda one: one["spec"]["trainer"].update(nodes=2), train_job),
        (lambda one: one["spec"]["trainer"].update(numNodes="2"), train_job),
        (lambda one: one["spec"].update(podTemplateOverrides=[]), train_job),  # gone since Trainer 2.2
        (lambda one: pod_of(one)["containers"][0].update(gpu=1), runtime),
        (lambda one: pod_of(one)["volumes"].append({"emptyDir": {}}), runtime),
        (lambda one: job_set_of(one)["failurePolicy"]["rules"][0].pop("action"), runtime),
    ):
        wrong = json.loads(json.dumps(document))
        spoil(wrong)
        assert complaints(wrong), wrong


def test_a_train_job_brings_its_runtime_and_a_job_set_stands_alone():
    assert kinds(made({"home_size": "1Gi"})) == ["PersistentVolumeClaim", "TrainingRuntime", "TrainJob"]
    assert kinds(made({"workload": "jobset"})) == ["JobSet"]
    runtime, train_job = made(FULL_CLUSTER, **FULL)[1:]
    assert train_job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": runtime["metadata"]["name"],
    }
    trainer = train_job["spec"]["trainer"]
    assert trainer["numNodes"] == 2 and trainer["args"] == ["node", "--", *BUILD, "--set", "launch.processes=16"]
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "32", "memory": "512Gi", "nvidia.com/gpu": "8"}
    assert train_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"


@pytest.mark.parametrize("workload", ["trainjob", "jobset"])
def test_pods_have_no_rights_they_do_not_need_and_time_for_a_checkpoint(workload):
    document = made(FULL_CLUSTER | {"workload": workload}, **FULL)[1]
    pod = pod_of(document)
    assert not complaints({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod})
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == kubernetes.USER
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False and pod["terminationGracePeriodSeconds"] == 330
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in pod["volumes"]}
    assert claims["home"] == {"claimName": "factory-home"} and claims["data"] == {"claimName": "scans", "readOnly": True}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/factory", "/tmp", "/dev/shm", "/data"}
    # A lost pod or exit 75 starts all pods again; what no restart mends does not.
    job = job_set_of(document)["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0 and job_set_of(document)["failurePolicy"]["maxRestarts"] == 10
    values = job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert 75 not in values and 7 not in values and 2 in values


def test_secrets_are_references_alone(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hush-hush-123")
    text = kubernetes.to_yaml(made({"secret": "keys"}, env=("HF_TOKEN",)))
    env = made({"secret": "keys"}, env=("HF_TOKEN",))[1]["spec"]["trainer"]["env"]
    assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "HF_TOKEN"}}} in env
    assert "hush" not in text


def test_kubernetes_expands_nothing_in_the_words_of_the_build():
    """`$(NAME)` in args would become the variable's value."""
    document = made(command=(*BUILD, "--set", "pack.title=$(HF_TOKEN) $HOME"))[1]
    assert "pack.title=$$(HF_TOKEN) $HOME" in document["spec"]["trainer"]["args"]


def test_each_seed_is_a_workload_of_one_job():
    found = made(seeds=(1, 2))
    assert [document["metadata"]["name"] for document in found] == ["t-s1", "t-s1", "t-s2", "t-s2"]
    assert {document["metadata"]["labels"]["factory-job"] for document in found} == {"t"}
    assert found[3]["spec"]["trainer"]["args"][-2:] == ["--seed", "2"]


@pytest.mark.parametrize(
    ("cluster", "fields", "says"),
    [
        ({}, {"image": ""}, "needs --image"),
        ({}, {"wall": "1:00"}, "--time is Slurm's"),
        ({}, {"env": ("A",)}, "--env A needs --secret"),
        ({}, {"name": "1t"}, "begin with a letter"),
        ({}, {"name": "a" * 50, "seeds": (1234, 2)}, "too long for pod names"),
        ({"workload": "pytorchjob"}, {}, "--workload is 'pytorchjob'"),
        ({"namespace": "Lab"}, {}, "--namespace is 'Lab'"),
        ({"home_size": "big"}, {}, "--home-size is 'big'"),
        ({"node_labels": ("gpu",)}, {}, "--node-label is 'gpu'"),
        ({"restarts": -1}, {}, "--restarts is -1"),
    ],
)
def test_what_cannot_work_is_refused(cluster, fields, says):
    with pytest.raises(ConfigError, match=says):
        made(cluster, **fields)


def sky(**fields):
    return Submission(
        **{"command": BUILD, "home": Path("/home"), "name": "t", "container": POD, "image": "lab/factory:1"} | fields
    )


def test_the_skypilot_task_fits_its_schema_and_says_who_is_where():
    for job in (sky(), sky(nodes=2, gpus=8, processes=8, memory="512G", env=("HF_TOKEN",), seeds=(3,))):
        task = skypilot.task(job, "shared", "H100")
        assert sky_complaints(task) == []
        assert yaml.safe_load(skypilot.to_yaml(task)) == task
    assert (
        task["resources"]["accelerators"] == "H100:8"
        and task["secrets"] == {"HF_TOKEN": None}
        and task["volumes"] == {"/factory": "shared"}
    )
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True).returncode == 0
    # What the nodes would know, from the variables that SkyPilot sets.
    shown = task["run"].replace(
        "exec factory", 'printf "%s %s %s:" $FACTORY_NODE_RANK $FACTORY_NNODES $FACTORY_MASTER_ADDR; echo'
    )
    env = {
        "PATH": os.environ["PATH"],
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    told = subprocess.run(["bash", "-c", shown], env=env, capture_output=True, text=True).stdout
    assert told == "1 2 10.0.0.1:node -- build --domain music --set launch.processes=16 --seed 3\n"
    assert sky_complaints(task | {"volume": "x"}), "the schema can refuse"
    with pytest.raises(ConfigError, match="--accelerator"):
        skypilot.task(sky(gpus=1), "shared", "")


RECORDER = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
row = {{"words": sys.argv[1:], "file": ""}}
if sys.argv[1] == "apply":
    row["file"] = pathlib.Path(sys.argv[3]).read_text()
with (folder / "calls.jsonl").open("a") as file:
    file.write(json.dumps(row) + "\\n")
answer = folder / ("answer-" + sys.argv[1])
if (folder / ("refuse-" + sys.argv[1])).exists():
    sys.exit("Error from server (Forbidden): no")
print(answer.read_text() if answer.exists() else "")
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A kubectl that keeps what it is asked; (run factory, read the calls, folder of its answers)."""
    folder = tmp_path / "kubectl"
    folder.mkdir()
    (folder / "kubectl").write_text(RECORDER.format(python=sys.executable, folder=str(folder)))
    (folder / "kubectl").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def factory(*words):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_HOME": str(tmp_path / "home"), "HF_TOKEN": "hush-hush-123"}
        return subprocess.run(
            [sys.executable, "-c", "from factory.cli.app import main; main()", *words], env=env, capture_output=True, text=True
        )

    def calls():
        path = folder / "calls.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    return factory, calls, folder


def conditions(*rows):
    return json.dumps({"items": [{"status": {"conditions": [{"type": kind, "status": "True"} for kind in row]}} for row in rows]})


def test_a_job_is_applied_listed_read_cancelled_and_resumed_through_kubectl(cluster):
    factory, calls, folder = cluster
    words = ("submit", "--cluster", "kubernetes", "--name", "t", "--nodes", "2", "--image", "lab/factory:1", "--namespace", "lab",
             "--env", "HF_TOKEN", "--secret", "keys")  # fmt: skip
    dry = factory(*words, "--dry-run", "--", *BUILD)
    assert dry.returncode == 0 and calls() == []
    ended = factory(*words, "--json", "--", *BUILD)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["number"] == "lab/trainjob/t"
    [applied] = calls()
    assert applied["words"][:2] == ["apply", "--filename"] and applied["file"].strip() == dry.stdout.strip()
    assert "hush" not in applied["file"] + dry.stdout
    (folder / "answer-get").write_text(conditions([]))
    [row] = json.loads(factory("jobs", "list", "--json").stdout)
    assert row["state"] == "running" and row["cluster"] == "kubernetes"
    assert calls()[0]["words"][:2] == ["get", "trainjobs.trainer.kubeflow.org"]
    again = factory("jobs", "resume", "t")
    assert again.returncode == 8 and "t is running" in again.stderr and [call["words"][0] for call in calls()] == ["get"]
    (folder / "answer-logs").write_text("[pod/t-node-0-0/node] step 3")
    assert "step 3" in factory("jobs", "logs", "t").stdout
    asked = calls()[0]["words"]
    assert (
        asked[0] == "logs"
        and asked[asked.index("--selector") + 1] == "factory-job=t"
        and asked[asked.index("--namespace") + 1] == "lab"
    )
    assert factory("jobs", "cancel", "t").returncode == 0
    asked = calls()[0]["words"]
    assert (
        asked[:2] == ["delete", "trainjobs.trainer.kubeflow.org,trainingruntimes.trainer.kubeflow.org"]
        and "factory-job=t" in asked
    )
    assert "persistentvolumeclaim" not in " ".join(asked), "runs outlive the job"
    (folder / "answer-get").write_text(conditions(["Failed"]))
    assert factory("jobs", "resume", "t").returncode == 0
    found = calls()
    assert [call["words"][0] for call in found] == ["get", "delete", "apply"] and found[2]["file"] == applied["file"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (conditions([]), "running"),
        (conditions(["Complete"]), "completed"),
        (conditions(["Completed"]), "completed"),
        (conditions(["Suspended"]), "suspended"),
        (conditions(["Failed"], ["Complete"]), "failed"),
        (conditions(["Complete"], []), "running"),
        ('{"items": []}', "gone"),
    ],
)
def test_states(cluster, answer, state):
    _, _, folder = cluster
    (folder / "answer-get").write_text(answer)
    assert kubectl.state("lab/jobset/t")[0] == state


def test_a_cluster_that_refuses_or_is_not_there_says_so(cluster, monkeypatch, tmp_path):
    factory, _, folder = cluster
    (folder / "refuse-get").touch()
    (folder / "refuse-apply").touch()
    assert kubectl.state("lab/jobset/t") == ("unknown", "kubectl get: Error from server (Forbidden): no")
    ended = factory("submit", "--cluster", "kubernetes", "--name", "u", "--image", "x", "--", *BUILD)
    assert ended.returncode == 1 and "kubectl apply: Error from server (Forbidden)" in ended.stderr
    assert json.loads(factory("jobs", "list", "--json").stdout) == [], "what was refused is no job"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no kubectl here"):
        kubectl.delete("lab/jobset/t")
    assert issubclass(ConfigError, FactoryError)
