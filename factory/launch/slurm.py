"""Slurm: the batch script of a submission, and the few commands that queue, list and cancel it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import factory
from factory.errors import ConfigError, FactoryError
from factory.launch.submission import Submission

LOG_NAME = "%x-%j.log"
"""Job name and number; one file for all attempts."""


def script(job: Submission, *, log_folder: Path) -> str:
    """The sbatch script. Holds names of variables, never their values."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["q"] = lambda value: shlex.quote(str(value))
    directives = [
        (name, value)
        for name, value in (
            ("mem", job.memory),
            ("time", job.wall),
            ("partition", job.partition),
            ("account", job.account),
            ("qos", job.qos),
        )
        if value
    ]
    srun_options, program = _where(job)
    text = (Path(str(files("factory"))) / "templates" / "slurm" / "build.sh.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        version=factory.__version__, job=job, directives=directives, log_folder=log_folder, log=f"{log_folder}/{'%x-%A-%a.log' if len(job.seeds) > 1 else LOG_NAME}",
        srun_options=srun_options, program=program, words=shlex.join(job.job_command),
    )  # fmt: skip


def _where(job: Submission) -> tuple[str, str]:
    """(further options of srun, the program that stands for `factory`) of the kind of container."""
    home = str(job.home)
    if job.container == "pyxis":
        return (
            f" --container-image={shlex.quote(job.image)} --container-mounts={shlex.quote(f'{home}:{home}')} --no-container-mount-home",
            "factory",
        )
    if job.container == "apptainer":
        gpu = " --nv" if job.gpus else ""
        return "", f"apptainer exec{gpu} --bind {shlex.quote(home)} {shlex.quote(job.image)} factory"
    return "", "factory"


def submit(text: str, path: Path, env: Mapping[str, str], names: Sequence[str]) -> str:
    """Write the script, queue it; the job's number.

    Args:
        env: this process's environment; of it, the job gets what `names` lists, and what a login shell sets.

    Raises:
        ConfigError: no sbatch here. FactoryError: Slurm refused, in its own words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    export = ",".join(["PATH", "HOME", "USER", "LANG", *names])
    return _run("sbatch", "--parsable", f"--export={export}", str(path), env=env).strip().split(";")[0]


def listed(numbers: Sequence[str]) -> dict[str, tuple[str, str]]:
    """number -> (state, reason or nodes) of those that Slurm still knows."""
    found = {}
    for number in numbers:
        try:
            text = _run("scontrol", "--oneliner", "show", "job", number)
        except FactoryError:
            continue
        fields = dict(part.partition("=")[::2] for part in text.split("\n")[0].split() if "=" in part)
        nodes = fields.get("NodeList", "")
        found[number] = (fields.get("JobState", "?"), fields.get("Reason", "") if nodes in ("", "(null)") else nodes)
    return found


def cancel(number: str) -> None:
    """Take a job out of the queue, or stop it. Raises FactoryError in Slurm's words."""
    _run("scancel", number)


def make_room(number: str) -> None:
    """Ask a running job to write a checkpoint and queue itself again."""
    _run("scancel", "--signal=USR1", number)


def _run(program: str, *words: str, env: Mapping[str, str] | None = None) -> str:
    if shutil.which(program) is None:
        raise ConfigError(
            f"there is no {program} here. Submit from a login node of the Slurm cluster, or look at the script with --dry-run."
        )
    ended = subprocess.run([program, *words], capture_output=True, text=True, env=None if env is None else dict(env), timeout=60)
    if ended.returncode:
        raise FactoryError(f"{program} {' '.join(words)}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout
