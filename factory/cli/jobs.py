"""`factory jobs`: list, read, cancel and resume what was submitted from this FACTORY_HOME."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table
from factory.errors import RegistryError

if TYPE_CHECKING:
    from factory.launch.jobs import JobRecord

BUSY = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "running", "suspended", "unknown")
"""States in which a job must not be queued a second time."""
app = typer.Typer(no_args_is_help=True, help="Jobs submitted from here.")


def _state(job: JobRecord) -> tuple[str, str]:
    from factory.launch import background, kubectl, slurm

    if job.cluster == "local":
        return background.state(job.number), ""
    if job.cluster == "kubernetes":
        return kubectl.state(job.number)
    return slurm.listed([job.number]).get(job.number, ("gone", "Slurm has forgotten it; its log is kept"))


@app.command("list")
def list_jobs(as_json: options.Json = False) -> None:
    """All jobs submitted from this FACTORY_HOME, with what the job system says of them now."""
    from factory.launch import jobs
    from factory.registry.home import Home

    rows = [(job, *_state(job)) for job in jobs.records(Home.find())]
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
    from factory.launch import jobs, kubectl
    from factory.registry.home import Home

    home = Home.find()
    job = jobs.find(home, name)
    if job.cluster == "kubernetes":
        ends = {job.number: kubectl.logs(job.number, lines).splitlines()}
    else:
        ends = {
            str(path): path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] for path in jobs.logs(home, job)
        }
    if as_json:
        emit_json(ends)
        return
    for path, end in ends.items():
        say(path, *end)
    if not any(ends.values()):
        say("no log yet: the job has not begun")


@app.command("cancel")
def cancel(name: Annotated[str, typer.Argument(help="Name or number of the job.")], as_json: options.Json = False) -> None:
    """Stop a job; what it has finished stays, and `resume` goes on from there."""
    from factory.launch import background, jobs, kubectl, slurm
    from factory.registry.home import Home

    job = jobs.find(Home.find(), name)
    {"slurm": slurm.cancel, "kubernetes": kubectl.delete, "local": background.cancel}[job.cluster](job.number)
    emit_json({"cancelled": job.name}) if as_json else say(f"cancelled {job.name}")


@app.command("resume")
def resume(name: Annotated[str, typer.Argument(help="Name or number of the job.")], as_json: options.Json = False) -> None:
    """Queue a job's script or manifests again; the build goes on where it stopped."""
    from factory.launch import background, jobs, kubectl, slurm
    from factory.launch.submission import check_env
    from factory.registry.home import Home

    home = Home.find()
    job = jobs.find(home, name)
    state, detail = _state(job)
    if state == "unknown":
        raise RegistryError(
            f"{job.name}: the cluster does not say whether job {job.number} runs ({detail}). Try again when it answers."
        )
    if state in BUSY:
        raise RegistryError(
            f"{job.name} is {state.lower()} as job {job.number}; it resumes by itself. Cancel it first to queue it anew."
        )
    check_env(job.env, os.environ)
    script = Path(job.script)
    if job.cluster == "slurm":
        number = slurm.submit(script.read_text(encoding="utf-8"), script, os.environ, job.env)
    elif job.cluster == "kubernetes":
        number = kubectl.again(script, job.number)
    else:
        number = background.run(job.command, script.parent)
    jobs.record(home, replace(job, number=number, submitted=""))
    emit_json({"name": job.name, "number": number}) if as_json else say(f"queued {job.name} again as job {number}")
