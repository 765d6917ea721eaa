"""`factory submit`: the same build on a cluster; `factory jobs` looks after what was submitted."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say
from factory.errors import ConfigError, RegistryError, near_miss

if TYPE_CHECKING:
    from factory.launch.kubernetes import Cluster
    from factory.launch.submission import Submission
    from factory.registry.home import Home

CLUSTERS = ("local", "slurm", "kubernetes", "skypilot")
KUBERNETES, SKYPILOT = "Kubernetes", "SkyPilot"


@dataclass(frozen=True)
class Prepared:
    """What would be queued: its text, where that is kept, and how it is queued."""

    text: str
    path: Path
    queue: Callable[[], str]
    """Queues it; the job system's number. SkyPilot's only writes the file."""


def submit(
    command: Annotated[list[str], typer.Argument(help="The build: -- build --domain NAME ... (or: -- doctor --cluster)")],
    cluster: Annotated[str, typer.Option(help="local (a background process), slurm, kubernetes, or skypilot (writes the task file).")] = "local",
    name: Annotated[str, typer.Option(help="Name of the job; without it a new one.")] = "",
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    processes: Annotated[int, typer.Option(help="Training processes on each node; with --gpus as many.")] = 0,
    gpus: Annotated[int, typer.Option(help="GPUs on each node.")] = 0,
    cpus: Annotated[int, typer.Option(help="CPUs of each process.")] = 1,
    memory: Annotated[str, typer.Option(help="Memory of each node, as the job system writes it: 64G.")] = "",
    wall: Annotated[str, typer.Option("--time", help="Longest run: 24:00:00. The job queues itself again and resumes.")] = "",
    grace: Annotated[int, typer.Option(help="Seconds before its end at which the job writes a checkpoint.")] = 120,
    partition: Annotated[str, typer.Option(help="Slurm's partition; Kueue's queue on Kubernetes.")] = "",
    account: Annotated[str, typer.Option(help="Slurm account to charge.")] = "",
    qos: Annotated[str, typer.Option(help="Slurm quality of service.")] = "",
    container: Annotated[str, typer.Option(help="Slurm: none, venv, pyxis or apptainer; --image says which.")] = "none",
    image: Annotated[str, typer.Option(help="Container image, .sif file, or folder of a virtual environment.")] = "",
    env: Annotated[list[str] | None, typer.Option(help="Name of a variable to pass on. Repeat for more.")] = None,
    env_file: Annotated[str, typer.Option(help="File of NAME=value lines on the cluster, for secrets.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, one build for each (a job array): 0,1,2.")] = "",
    extra: Annotated[list[str] | None, typer.Option(help="A further directive, as written: --constraint=h100. Repeat.")] = None,
    namespace: Annotated[str, typer.Option(rich_help_panel=KUBERNETES, help="Namespace of the workload.")] = "default",
    workload: Annotated[str, typer.Option(help="trainjob (Kubeflow Trainer 2) or jobset.", rich_help_panel=KUBERNETES)] = "trainjob",
    home_claim: Annotated[str, typer.Option(help="PersistentVolumeClaim of FACTORY_HOME.", rich_help_panel=KUBERNETES)] = "factory-home",
    home_size: Annotated[str, typer.Option(help="Make that claim, of this size: 500Gi.", rich_help_panel=KUBERNETES)] = "",
    storage_class: Annotated[str, typer.Option(help="Storage class of the claim.", rich_help_panel=KUBERNETES)] = "",
    data_claim: Annotated[str, typer.Option(help="Claim mounted read-only at /data.", rich_help_panel=KUBERNETES)] = "",
    secret: Annotated[str, typer.Option(help="Secret that has the variables of --env.", rich_help_panel=KUBERNETES)] = "",
    pull_secret: Annotated[str, typer.Option(help="Secret to pull the image with.", rich_help_panel=KUBERNETES)] = "",
    node_label: Annotated[list[str] | None, typer.Option(help="Label that machines must have: key=value. Repeat.", rich_help_panel=KUBERNETES)] = None,
    restarts: Annotated[int, typer.Option(help="How often a job that was lost or made room starts again.", rich_help_panel=KUBERNETES)] = 10,
    volume: Annotated[str, typer.Option(help="Volume of FACTORY_HOME.", rich_help_panel=SKYPILOT)] = "factory-home",
    accelerator: Annotated[str, typer.Option(help="Name of the GPU: H100.", rich_help_panel=SKYPILOT)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script or manifests, queue nothing.")] = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Queue a build on a cluster. It resumes by itself after preemption; `factory jobs` lists, shows, cancels and resumes it."""
    from factory.launch import jobs
    from factory.launch.kubernetes import Cluster
    from factory.launch.submission import POD, Submission, new_name
    from factory.registry.home import Home

    if cluster not in CLUSTERS:
        raise ConfigError(f"--cluster is {cluster!r}.{near_miss(cluster, CLUSTERS)} Known: {', '.join(CLUSTERS)}.")
    home, words = Home.find(), tuple(command)
    is_pod = cluster in ("kubernetes", "skypilot")
    if is_pod and container != "none":
        raise ConfigError(f"--container is Slurm's; {cluster} always runs --image. Leave it out.")
    job = Submission(
        words, home.root, name or new_name(words), nodes, processes or gpus or 1, gpus, cpus, memory, wall, grace, partition, account,
        qos, POD if is_pod else container, image, tuple(env or ()), env_file, _seeds(seeds), tuple(extra or ()),
    )  # fmt: skip
    where = Cluster(
        namespace, workload, home_claim, home_size, storage_class, data_claim, secret, pull_secret, tuple(node_label or ()), restarts
    )  # fmt: skip
    folder = jobs.folder_of(home, job.name)
    if (folder / jobs.FILE_NAME).exists():
        raise RegistryError(
            f"a job '{job.name}' was submitted already. Take another --name, or `factory jobs resume {job.name}`."
        )
    made = _prepared(cluster, job, folder, where, volume, accelerator)
    if dry_run:
        emit_json({"name": job.name, "script": made.text}) if as_json else say(made.text)
        return
    number = _queued(cluster, job, made, home)
    if as_json:
        emit_json({"name": job.name, "number": number, "folder": str(folder)})
    elif cluster == "skypilot":
        say(f"wrote {made.path}", f"start it with: sky jobs launch {made.path}")
    else:
        look = f"factory jobs list | logs {job.name} | cancel {job.name}"
        say(f"queued {job.name} as {cluster} job {number}", f"look after it with: {look}")


def _queued(cluster: str, job: Submission, made: Prepared, home: Home) -> str:
    """Queue it and keep a record; the job system's number."""
    from factory.launch import jobs
    from factory.launch.submission import POD, check_env

    passed_on = () if job.container == POD else job.env
    check_env(passed_on, os.environ)
    number = made.queue()
    if cluster != "skypilot":
        words = job.words if cluster == "local" else job.command
        jobs.record(home, jobs.JobRecord(job.name, cluster, number, words, str(made.path), env=passed_on))
    return number


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError as err:
        raise ConfigError(f"--seeds is {text!r}; want whole numbers with commas: 0,1,2.") from err


def _prepared(cluster: str, job: Submission, folder: Path, where: Cluster, volume: str, accelerator: str) -> Prepared:
    from factory.launch import background, kubectl, kubernetes, skypilot, slurm

    if cluster == "kubernetes":
        text, path = kubernetes.to_yaml(kubernetes.manifests(job, where)), folder / "manifests.yaml"
        number = kubectl.number_of(where.namespace, where.workload, job.name)
        return Prepared(text, path, lambda: kubectl.apply(text, path, number))
    if cluster == "skypilot":
        text, path = skypilot.to_yaml(skypilot.task(job, volume, accelerator)), folder / "task.yaml"
        return Prepared(text, path, lambda: _write(path, text))
    if cluster == "slurm":
        text, path = slurm.script(job, log_folder=folder), folder / "build.sh"
        return Prepared(text, path, lambda: slurm.submit(text, path, os.environ, job.env))
    if job.nodes > 1 or job.container != "none":
        raise ConfigError("--cluster local is this machine, without containers. Take --cluster slurm or kubernetes for more.")
    if len(job.seeds) > 1:
        raise ConfigError("--cluster local runs one build. Submit once for each seed.")
    return Prepared(shlex.join(("factory", *job.words)), folder / "build.sh", lambda: background.start(job, folder))


def _write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return ""
