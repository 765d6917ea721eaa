"""`factory submit`: the same build on a cluster; `factory jobs` looks after what was submitted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table
from factory.errors import ConfigError, RegistryError, near_miss

CLUSTERS = ("local", "slurm")
app = typer.Typer(no_args_is_help=True, help="Jobs submitted from here.")


def submit(
    command: Annotated[list[str], typer.Argument(help="The build: -- build --domain NAME ...")],
    cluster: Annotated[str, typer.Option(help="local (a background process) or slurm.")] = "local",
    name: Annotated[str, typer.Option(help="Name of the job; without it a new one.")] = "",
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    processes: Annotated[int, typer.Option(help="Training processes on each node; with --gpus as many.")] = 0,
    gpus: Annotated[int, typer.Option(help="GPUs on each node.")] = 0,
    cpus: Annotated[int, typer.Option(help="CPUs of each process.")] = 1,
    memory: Annotated[str, typer.Option(help="Memory of each node, as the job system writes it: 64G.")] = "",
    wall: Annotated[str, typer.Option("--time", help="Longest run: 24:00:00. The job queues itself again and resumes.")] = "",
    grace: Annotated[int, typer.Option(help="Seconds before its end at which the job writes a checkpoint.")] = 120,
    partition: Annotated[str, typer.Option()] = "",
    account: Annotated[str, typer.Option()] = "",
    qos: Annotated[str, typer.Option()] = "",
    container: Annotated[str, typer.Option(help="none, venv, pyxis or apptainer; --image says which.")] = "none",
    image: Annotated[str, typer.Option(help="Container image, .sif file, or folder of a virtual environment.")] = "",
    env: Annotated[list[str] | None, typer.Option(help="Name of a variable to pass on. Repeat for more.")] = None,
    env_file: Annotated[str, typer.Option(help="File of NAME=value lines on the cluster, for secrets.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds of a job array, one build for each: 0,1,2.")] = "",
    extra: Annotated[list[str] | None, typer.Option(help="A further directive, as written: --constraint=h100. Repeat.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script, queue nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Queue a build on a cluster. It resumes by itself after preemption; `factory jobs` lists, shows, cancels and resumes it."""
    from factory.launch import jobs, slurm
    from factory.launch.submission import Submission, check_env, new_name
    from factory.registry.home import Home

    if cluster not in CLUSTERS:
        raise ConfigError(f"--cluster is {cluster!r}.{near_miss(cluster, CLUSTERS)} Known: {', '.join(CLUSTERS)}.")
    home = Home.find()
    words = tuple(command)
    job = Submission(
        words, home.root, name or new_name(words), nodes, processes or gpus or 1, gpus, cpus, memory, wall, grace, partition, account,
        qos, container, image, tuple(env or ()), env_file, _seeds(seeds), tuple(extra or ()),
    )  # fmt: skip
    if cluster == "local" and (nodes > 1 or container != "none"):
        raise ConfigError("--cluster local is this machine, without containers. Take --cluster slurm for more.")
    folder = jobs.folder_of(home, job.name)
    if (folder / jobs.FILE_NAME).exists():
        raise RegistryError(
            f"a job '{job.name}' was submitted already. Take another --name, or `factory jobs resume {job.name}`."
        )
    script = slurm.script(job, log_folder=folder) if cluster == "slurm" else " ".join(("factory", *words))
    if dry_run:
        emit_json({"name": job.name, "script": script}) if as_json else say(script)
        return
    check_env(job.env, os.environ)
    number = _queue(cluster, job, script, folder)
    jobs.record(home, jobs.JobRecord(job.name, cluster, number, words, str(folder / "build.sh"), env=job.env))
    if as_json:
        emit_json({"name": job.name, "number": number, "folder": str(folder)})
        return
    say(
        f"queued {job.name} as {cluster} job {number}",
        f"look after it with: factory jobs list | logs {job.name} | cancel {job.name}",
    )


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError as err:
        raise ConfigError(f"--seeds is {text!r}; want whole numbers with commas: 0,1,2.") from err


def _queue(cluster: str, job: object, script: str, folder: Path) -> str:
    from factory.launch import background, slurm
    from factory.launch.submission import Submission

    assert isinstance(job, Submission)
    if cluster == "slurm":
        return slurm.submit(script, folder / "build.sh", os.environ, job.env)
    return background.start(replace(job), folder)


def _state(cluster: str, number: str) -> tuple[str, str]:
    from factory.launch import background, slurm

    if cluster == "local":
        return background.state(number), ""
    return slurm.listed([number]).get(number, ("gone", "Slurm has forgotten it; its log is kept"))


@app.command("list")
def list_jobs(as_json: options.Json = False) -> None:
    """All jobs submitted from this FACTORY_HOME, with what the job system says of them now."""
    from factory.launch import jobs
    from factory.registry.home import Home

    rows = [(job, *_state(job.cluster, job.number)) for job in jobs.records(Home.find())]
    if as_json:
        emit_json([{"name": job.name, "cluster": job.cluster, "number": job.number, "state": state, "where": where,
                    "command": list(job.command), "submitted": job.submitted} for job, state, where in rows])  # fmt: skip
        return
    say(table(("name", "cluster", "job", "state", "", "submitted", "command"),
              [(job.name, job.cluster, job.number, state, where, job.submitted, " ".join(job.command)) for job, state, where in rows]))  # fmt: skip


@app.command("logs")
def show_logs(
    name: Annotated[str, typer.Argument(help="Name or number of the job.")],
    lines: Annotated[int, typer.Option(min=1, help="Lines of the end of each log.")] = 40,
    as_json: options.Json = False,
) -> None:
    """The end of a job's logs."""
    from factory.launch import jobs
    from factory.registry.home import Home

    home = Home.find()
    found = jobs.logs(home, jobs.find(home, name))
    ends = {str(path): path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] for path in found}
    if as_json:
        emit_json(ends)
        return
    for path, end in ends.items():
        say(path, *end)
    if not ends:
        say("no log yet: the job has not begun")


@app.command("cancel")
def cancel(name: Annotated[str, typer.Argument(help="Name or number of the job.")], as_json: options.Json = False) -> None:
    """Stop a job; what it has finished stays, and `resume` goes on from there."""
    from factory.launch import background, jobs, slurm
    from factory.registry.home import Home

    job = jobs.find(Home.find(), name)
    (slurm.cancel if job.cluster == "slurm" else background.cancel)(job.number)
    emit_json({"cancelled": job.name}) if as_json else say(f"cancelled {job.name}")


@app.command("resume")
def resume(name: Annotated[str, typer.Argument(help="Name or number of the job.")], as_json: options.Json = False) -> None:
    """Queue a job's script again; the build goes on where it stopped."""
    from factory.launch import background, jobs, slurm
    from factory.launch.submission import check_env
    from factory.registry.home import Home

    home = Home.find()
    job = jobs.find(home, name)
    state, _ = _state(job.cluster, job.number)
    if state in ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "running"):
        raise RegistryError(
            f"{job.name} is {state.lower()} as job {job.number}; it resumes by itself. Cancel it first to queue it anew."
        )
    check_env(job.env, os.environ)
    script = Path(job.script)
    if job.cluster == "slurm":
        number = slurm.submit(script.read_text(encoding="utf-8"), script, os.environ, job.env)
    else:
        number = background.run(job.command, script.parent)
    jobs.record(home, replace(job, number=number, submitted=""))
    emit_json({"name": job.name, "number": number}) if as_json else say(f"queued {job.name} again as job {number}")
