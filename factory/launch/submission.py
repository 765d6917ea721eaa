"""What is submitted to a job system: a build's command, the machines it wants, and where it runs in them. Checked before anything is queued."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from factory.errors import ConfigError, near_miss

CONTAINERS = ("none", "venv", "pyxis", "apptainer")
POD = "pod"
"""The container of a job system that runs nothing else (Kubernetes, SkyPilot)."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")
_WALL = re.compile(r"(\d+-)?\d{1,3}(:[0-5]\d){0,2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[\w.,:@/+=-]+")


@dataclass(frozen=True)
class Submission:
    """One job. `command` is what follows `factory`: `("build", "--domain", "music")`, or `("doctor", "--cluster")`."""

    command: tuple[str, ...]
    home: Path
    """FACTORY_HOME of the job, on storage that all nodes share."""
    name: str = ""
    nodes: int = 1
    processes: int = 1
    """Per node; with GPUs, one for each."""
    gpus: int = 0
    """Per node."""
    cpus: int = 1
    """Per process."""
    memory: str = ""
    """Per node: `64G`. Empty leaves it to the cluster."""
    wall: str = ""
    """Longest run: `24:00:00`, `2-00:00:00`."""
    grace_s: int = 120
    """How long before its end the job is asked to write a checkpoint."""
    partition: str = ""
    account: str = ""
    qos: str = ""
    container: str = "none"
    image: str = ""
    """Container image, apptainer file, or the folder of a virtual environment, as `container` says."""
    env: tuple[str, ...] = ()
    """Names of environment variables to pass on. Values are never written into a script or manifest."""
    env_file: str = ""
    """File of `NAME=value` lines on the cluster, readable by the user alone, that the job reads (secrets by reference)."""
    seeds: tuple[int, ...] = ()
    """More than one: one build for each (a job array on Slurm)."""
    extra: tuple[str, ...] = ()
    """Further directives of the job system, as written: `--constraint=h100`."""

    def __post_init__(self) -> None:
        if not self.command or (self.command[0] != "build" and self.command[:2] != ("doctor", "--cluster")):
            raise ConfigError(
                f"submit runs builds (and doctor --cluster), got {' '.join(self.command) or 'nothing'}. Write: factory submit --cluster slurm -- build --domain NAME"
            )
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"--name is {self.name!r}; use up to 50 small letters, digits and '-'.")
        for what, value, least in (
            ("nodes", self.nodes, 1),
            ("processes", self.processes, 1),
            ("gpus", self.gpus, 0),
            ("cpus", self.cpus, 1),
        ):
            if value < least:
                raise ConfigError(f"--{what} is {value}; want {least} or more.")
        if self.gpus and self.processes != self.gpus:
            raise ConfigError(
                f"--gpus {self.gpus} with --processes {self.processes}: one process drives one GPU, so make them equal."
            )
        if self.wall and not _WALL.fullmatch(self.wall):
            raise ConfigError(f"--time is {self.wall!r}; want minutes, hours:minutes:seconds or days-hours:minutes:seconds.")
        if self.container not in (*CONTAINERS, POD):
            raise ConfigError(
                f"--container is {self.container!r}.{near_miss(self.container, CONTAINERS)} Known: {', '.join(CONTAINERS)}."
            )
        if self.container != POD and (self.container != "none") != bool(self.image):
            raise ConfigError(
                "--container pyxis, apptainer or venv needs --image (an image, a .sif file, a folder), and none takes none."
            )
        for variable in self.env:
            if not _VARIABLE.fullmatch(variable):
                raise ConfigError(f"--env takes names of variables, got {variable!r}; values are not written into job scripts.")
        for what in ("partition", "account", "qos", "memory", "image", "env_file"):
            value = getattr(self, what)
            if value and not _PLAIN.fullmatch(value):
                raise ConfigError(f"--{what.replace('_', '-')} is {value!r}; it may hold letters, digits and ._,:@/+=- only.")
        for line in self.extra:
            if not line.startswith("--") or any(ord(c) < 32 for c in line):
                raise ConfigError(f"--extra is {line!r}; want one directive such as --constraint=h100.")

    @property
    def job_command(self) -> tuple[str, ...]:
        """What each node runs after `factory`: the build on all nodes' processes."""
        return ("node", "--", *self.words)

    @property
    def words(self) -> tuple[str, ...]:
        """The command with the number of processes and, when there is one seed, the seed."""
        if self.command[0] != "build":
            return self.command
        total = self.nodes * self.processes
        spread = ("--set", f"launch.processes={total}") if total > 1 else ()
        seed = ("--seed", str(self.seeds[0])) if len(self.seeds) == 1 else ()
        return (*self.command, *spread, *seed)


def new_name(command: tuple[str, ...]) -> str:
    """`factory-<domain>-<time>-<4 letters>`, unique enough for a person's jobs."""
    domain = next((command[i + 1] for i, word in enumerate(command[:-1]) if word in ("--domain", "-d")), "build")
    clean = re.sub(r"[^a-z0-9-]+", "-", domain.lower()).strip("-")[:20] or "build"
    return f"factory-{clean}-{time.strftime('%m%d%H%M')}-{secrets.token_hex(2)}"


def check_env(names: tuple[str, ...], env: Mapping[str, str]) -> None:
    """Raise ConfigError when a variable to pass on is not set here."""
    missing = [name for name in names if name not in env]
    if missing:
        raise ConfigError(f"--env names {', '.join(missing)}, which are not set here. Export them, or use --env-file.")
