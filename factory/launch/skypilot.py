"""A SkyPilot task of a build: for `sky jobs launch FILE`, which finds machines at clouds and clusters and starts again what they take away."""

from __future__ import annotations

import re
import shlex
from typing import Any

import factory
from factory.errors import ConfigError
from factory.launch.submission import Submission

HOME = "/factory"
MADE_ROOM = 75


def task(job: Submission, volume: str, accelerator: str) -> dict[str, Any]:
    """The task as plain data.

    Args:
        volume: name of the SkyPilot volume that holds FACTORY_HOME; all nodes must be able to write it.
        accelerator: name of the GPU as SkyPilot writes it (`H100`); needed with `gpus`.

    Raises:
        ConfigError: settings that a task cannot express.
    """
    for option, value in (("--partition", job.partition), ("--account", job.account), ("--qos", job.qos), ("--time", job.wall),
                          ("--env-file", job.env_file), ("--extra", job.extra), ("--seeds", job.seeds[1:])):  # fmt: skip
        if value:
            raise ConfigError(
                f"{option} has no counterpart in a SkyPilot task. Leave it out (--seeds: export one file for each)."
            )
    if job.gpus and not accelerator:
        raise ConfigError("--gpus needs --accelerator with SkyPilot, the name of the GPU: H100, A100-80GB.")
    resources: dict[str, Any] = {"cpus": f"{job.cpus * job.processes}+"}
    if job.memory:
        if not (gib := re.fullmatch(r"(\d+)(G|Gi|GB)?", job.memory)):
            raise ConfigError(f"--memory {job.memory}: SkyPilot counts whole GiB, such as 64G.")
        resources["memory"] = f"{gib.group(1)}+"
    if job.gpus:
        resources["accelerators"] = f"{accelerator}:{job.gpus}"
    if job.image:
        resources["image_id"] = f"docker:{job.image}"
    resources["job_recovery"] = {"recover_on_exit_codes": [MADE_ROOM]}
    made: dict[str, Any] = {
        "name": job.name, "num_nodes": job.nodes, "resources": resources,
        "envs": {"FACTORY_HOME": HOME, "FACTORY_JOB": job.name, "FACTORY_GRACE_S": str(job.grace_s), "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
        "volumes": {HOME: volume},
    }  # fmt: skip
    if job.env:
        made["secrets"] = {name: None for name in job.env}
    return made | {"run": _run_text(job)}


def to_yaml(made: dict[str, Any]) -> str:
    """The task file."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(
        str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
    )
    head = f"# Written by factory {factory.__version__}. Start it with: sky jobs launch FILE. Values of secrets are asked for, not kept.\n"
    return head + yaml.dump(made, Dumper=Dumper, sort_keys=False, width=140)


def _run_text(job: Submission) -> str:
    return (
        "export FACTORY_NODE_RANK=$SKYPILOT_NODE_RANK FACTORY_NNODES=$SKYPILOT_NUM_NODES\n"
        'export FACTORY_MASTER_ADDR=$(echo "$SKYPILOT_NODE_IPS" | head -n1)\n'
        f"exec factory {shlex.join(job.job_command)}\n"
    )
