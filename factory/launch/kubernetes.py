"""Kubernetes manifests of a build: a Kubeflow TrainJob with a TrainingRuntime of its own, or a plain JobSet. Plain data, no cluster needed.

A runtime of its own, because what a TrainJob may change of somebody else's has another name in almost every release of Kubeflow
Trainer (podTemplateOverrides up to 2.1, runtimePatches from 2.2), and a runtime reads the same in all of them.

How it restarts: a Job tolerates no failed pod (backoffLimit 0), so any lost node, kill or exit 75 (made room) fails the Job, and the
JobSet starts all its pods anew, which resume; exits that no second try can mend (wrong settings, data, a bug) fail it for good.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import factory
from factory.errors import ConfigError, near_miss
from factory.launch.submission import Submission

Manifest = dict[str, Any]

WORKLOADS = ("trainjob", "jobset")
HOME, TMP, SHM, DATA = "/factory", "/tmp", "/dev/shm", "/data"
"""Where the volumes are mounted."""
USER = 10001
"""User and group of the pods; the image's own (Dockerfile) is the same number."""
GIVE_UP = (2, 3, 4, 5, 6, 8, 70)
"""Exit codes that a restart does not mend: docs/exit-codes.md. The others (7: training died, 75: made room, signals) are started anew."""
KILL_S = 30
"""Seconds between the end of the grace and SIGKILL."""
ALIVE = f"{TMP}/factory-node.alive"
LABEL = "factory-job"
_DNS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SIZE = re.compile(r"[1-9]\d*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")


@dataclass(frozen=True)
class Cluster:
    """Where in a Kubernetes cluster a build runs."""

    namespace: str = "default"
    workload: str = "trainjob"
    home_claim: str = "factory-home"
    """PersistentVolumeClaim of FACTORY_HOME; several nodes need one that they can all write (ReadWriteMany)."""
    home_size: str = ""
    """`500Gi`: make the claim. Empty: it exists."""
    storage_class: str = ""
    data_claim: str = ""
    """A claim mounted read-only at /data."""
    secret: str = ""
    """The Secret whose keys the variables of `--env` are."""
    pull_secret: str = ""
    node_labels: tuple[str, ...] = ()
    """`key=value` labels that the machines must have."""
    restarts: int = 10

    def __post_init__(self) -> None:
        if self.workload not in WORKLOADS:
            raise ConfigError(
                f"--workload is {self.workload!r}.{near_miss(self.workload, WORKLOADS)} Known: {', '.join(WORKLOADS)}."
            )
        for what in ("namespace", "home_claim", "storage_class", "data_claim", "secret", "pull_secret"):
            value = getattr(self, what)
            if value and not _DNS.fullmatch(value):
                raise ConfigError(
                    f"--{what.replace('_', '-')} is {value!r}; names in Kubernetes hold small letters, digits, '-' and '.'."
                )
        if not (self.namespace and self.home_claim):
            raise ConfigError("--namespace and --home-claim must not be empty.")
        if self.home_size and not _SIZE.fullmatch(self.home_size):
            raise ConfigError(f"--home-size is {self.home_size!r}; want a number with a unit: 500Gi.")
        if self.restarts < 0:
            raise ConfigError(f"--restarts is {self.restarts}; want 0 or more.")
        for label in self.node_labels:
            if not all(label.partition("=")):
                raise ConfigError(f"--node-label is {label!r}; want key=value, such as nvidia.com/gpu.product=H100.")


def manifests(job: Submission, cluster: Cluster) -> list[Manifest]:
    """Everything to apply, in order: the claim when it is to be made, then one workload for each seed.

    Raises:
        ConfigError: the submission asks for something that Kubernetes does not have, or lacks the image.
    """
    _check(job, cluster)
    made = [_claim(job, cluster)] if cluster.home_size else []
    for name, args in runs(job):
        made += (_train_job if cluster.workload == "trainjob" else _job_set)(job, cluster, name, args)
    return made


def runs(job: Submission) -> list[tuple[str, list[str]]]:
    """(name, arguments of `factory`) of each workload: one, or one for each seed. `$(` is doubled: Kubernetes would expand it."""
    words = [word.replace("$(", "$$(") for word in job.job_command]
    if len(job.seeds) < 2:
        return [(job.name, words)]
    return [(f"{job.name}-s{seed}", [*words, "--seed", str(seed)]) for seed in job.seeds]


def to_yaml(made: list[Manifest]) -> str:
    """One file of several documents."""
    import yaml

    head = f"# Written by factory {factory.__version__}. Holds names of Secrets, never their values.\n"
    return head + yaml.safe_dump_all(made, sort_keys=False, width=140)


def _check(job: Submission, cluster: Cluster) -> None:
    if not job.image:
        raise ConfigError(
            "--cluster kubernetes needs --image, a container image with factory in it (see docs/clusters.md, Containers)."
        )
    for option, value in (
        ("--time", job.wall),
        ("--account", job.account),
        ("--qos", job.qos),
        ("--env-file", job.env_file),
        ("--extra", job.extra),
    ):
        if value:
            raise ConfigError(f"{option} is Slurm's; Kubernetes has no such thing. Leave it out.")
    if job.env and not cluster.secret:
        raise ConfigError(
            f"--env {' '.join(job.env)} needs --secret NAME, the Kubernetes Secret with these keys; values never stand in a manifest."
        )
    if not job.name[0].isalpha():
        raise ConfigError(f"--name {job.name}: names of Kubernetes workloads begin with a letter.")
    if any(len(f"{name}-node-0-{job.nodes - 1}") > 63 for name, _ in runs(job)):
        raise ConfigError(
            f"--name {job.name} is too long for pod names of Kubernetes (63 letters with its ending); take a shorter one."
        )


def _train_job(job: Submission, cluster: Cluster, name: str, args: list[str]) -> list[Manifest]:
    runtime = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime", "metadata": _metadata(job, cluster, name),
        "spec": {
            "mlPolicy": {"numNodes": job.nodes, "torch": {}},
            "template": {"spec": _job_set_spec(job, cluster, _container(job), {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"})},
        },
    }  # fmt: skip
    trainer = {
        "numNodes": job.nodes, "image": job.image, "command": ["factory"], "args": args,
        "env": _environment(job, cluster, name), "resourcesPerNode": _resources(job),
    }  # fmt: skip
    reference = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": name}
    spec = {"runtimeRef": reference, "trainer": trainer}
    return [
        runtime,
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": _metadata(job, cluster, name),
            "spec": spec,
        },
    ]


def _job_set(job: Submission, cluster: Cluster, name: str, args: list[str]) -> list[Manifest]:
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    rendezvous = [
        {"name": "FACTORY_NODE_RANK", "valueFrom": index},
        {"name": "FACTORY_NNODES", "value": str(job.nodes)},
        {"name": "FACTORY_MASTER_ADDR", "value": f"{name}-node-0-0.{name}"},
    ]
    container = _container(job) | {
        "command": ["factory"], "args": args, "env": rendezvous + _environment(job, cluster, name), "resources": _resources(job),
    }  # fmt: skip
    spec = _job_set_spec(job, cluster, container, {}, job.nodes)
    return [{"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": _metadata(job, cluster, name), "spec": spec}]


def _job_set_spec(job: Submission, cluster: Cluster, container: Manifest, labels: dict[str, str], pods: int = 0) -> Manifest:
    """The JobSet of both kinds. `pods`: how many; 0 leaves it to Kubeflow Trainer."""
    template: Manifest = {
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "podFailurePolicy": {
            "rules": [{"action": "FailJob", "onExitCodes": {"containerName": "node", "operator": "In", "values": list(GIVE_UP)}}]
        },
        "template": {"metadata": {"labels": _labels(job)}, "spec": _pod(job, cluster, container)},
    }
    if pods:
        template |= {"parallelism": pods, "completions": pods}
    metadata = {"metadata": {"labels": labels}} if labels else {}
    give_up = {"name": "cannotBeMended", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "network": {"enableDNSHostnames": True},
        "failurePolicy": {"maxRestarts": cluster.restarts, "rules": [give_up]},
        "replicatedJobs": [{"name": "node", "replicas": 1, "template": metadata | {"spec": template}}],
    }  # fmt: skip


def _pod(job: Submission, cluster: Cluster, container: Manifest) -> Manifest:
    volumes: list[Manifest] = [
        {"name": "home", "persistentVolumeClaim": {"claimName": cluster.home_claim}},
        {"name": "tmp", "emptyDir": {}},
        # NCCL and data loaders share memory between the processes of a pod; the default of 64 MiB is too small for both.
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": "home", "mountPath": HOME}, {"name": "tmp", "mountPath": TMP}, {"name": "shm", "mountPath": SHM}]
    if cluster.data_claim:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": cluster.data_claim, "readOnly": True}})
        mounts.append({"name": "data", "mountPath": DATA, "readOnly": True})
    pod: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace_s + KILL_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container | {"volumeMounts": mounts}],
        "volumes": volumes,
    }  # fmt: skip
    if cluster.node_labels:
        pod["nodeSelector"] = dict(label.split("=", 1) for label in cluster.node_labels)
    if job.gpus:
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if cluster.pull_secret:
        pod["imagePullSecrets"] = [{"name": cluster.pull_secret}]
    return pod


def _container(job: Submission) -> Manifest:
    """The container without what a TrainJob sets itself (command, variables, resources).

    No preStop hook: SIGTERM itself asks `factory node` for a checkpoint, and the grace of the pod leaves time for it. The probe ends a
    pod whose node process hangs; how long a stage takes it does not ask.
    """
    stale = f'test -n "$(find {ALIVE} -mmin -5)"'
    return {
        "name": "node", "image": job.image,
        "livenessProbe": {"exec": {"command": ["/bin/sh", "-c", stale]}, "initialDelaySeconds": 300, "periodSeconds": 60, "timeoutSeconds": 10},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip


def _environment(job: Submission, cluster: Cluster, name: str) -> list[Manifest]:
    plain = {
        "FACTORY_JOB": name, "FACTORY_HOME": HOME, "FACTORY_GRACE_S": str(job.grace_s), "FACTORY_ALIVE_FILE": ALIVE,
        "HOME": TMP, "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    secrets = [{"name": key, "valueFrom": {"secretKeyRef": {"name": cluster.secret, "key": key}}} for key in job.env]
    return [{"name": key, "value": value} for key, value in plain.items()] + secrets


def _resources(job: Submission) -> Manifest:
    """What each node gets; requests equal limits, so that it is not the first to be driven out."""
    limits = {"cpu": str(job.cpus * job.processes)}
    if job.memory:
        limits["memory"] = f"{job.memory}i" if job.memory[-1:] in "KMGT" else job.memory
    if job.gpus:
        limits["nvidia.com/gpu"] = str(job.gpus)
    return {"limits": limits, "requests": dict(limits)}


def _claim(job: Submission, cluster: Cluster) -> Manifest:
    """The claim outlives the job: it carries no label of it, and `factory jobs cancel` leaves it alone."""
    mode = "ReadWriteMany" if job.nodes > 1 or len(job.seeds) > 1 else "ReadWriteOnce"
    spec: Manifest = {"accessModes": [mode], "resources": {"requests": {"storage": cluster.home_size}}}
    if cluster.storage_class:
        spec["storageClassName"] = cluster.storage_class
    metadata = {"name": cluster.home_claim, "namespace": cluster.namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def _metadata(job: Submission, cluster: Cluster, name: str) -> Manifest:
    queue = {"kueue.x-k8s.io/queue-name": job.partition} if job.partition else {}
    return {"name": name, "namespace": cluster.namespace, "labels": _labels(job) | queue}


def _labels(job: Submission) -> dict[str, str]:
    return {LABEL: job.name, "app.kubernetes.io/managed-by": "factory"}
