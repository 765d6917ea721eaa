"""What is asked of a Kubernetes cluster, through the user's kubectl and its current context: apply, look, read logs, delete."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, FactoryError
from factory.launch.kubernetes import LABEL

KINDS = {
    "trainjob": ("trainjobs.trainer.kubeflow.org", "trainingruntimes.trainer.kubeflow.org"),
    "jobset": ("jobsets.jobset.x-k8s.io",),
}  # fmt: skip
"""Workload -> the kinds that make it up, the one whose state counts first."""
LIMIT_S = 120


def number_of(namespace: str, workload: str, name: str) -> str:
    """The id that a job record keeps: `namespace/workload/name`."""
    return f"{namespace}/{workload}/{name}"


def apply(text: str, path: Path, number: str) -> str:
    """Keep the manifests in `path` and apply them; the job's number.

    Raises:
        ConfigError: no kubectl here. FactoryError: the cluster refused, in its own words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _run("apply", "--filename", str(path))
    return number


def state(number: str) -> tuple[str, str]:
    """(state, detail): `running`, `suspended` (waits in a queue), `completed`, `failed`, `gone`; `unknown` when the cluster does not answer."""
    namespace, workload, name = number.split("/")
    try:
        told = _run("get", KINDS[workload][0], "--namespace", namespace, "--selector", f"{LABEL}={name}", "--output", "json")
    except FactoryError as err:
        return "unknown", (str(err).splitlines() or [""])[0]
    states = [_state(item) for item in json.loads(told).get("items", [])]
    if not states:
        return "gone", "the cluster has forgotten it; its runs lie in the volume"
    order = ("failed", "running", "suspended", "completed")
    detail = ", ".join(f"{states.count(one)} {one}" for one in order if one in states) if len(states) > 1 else ""
    return next(one for one in order if one in states), detail


def logs(number: str, lines: int) -> str:
    """The end of the output of the job's pods, each line after the pod's name."""
    namespace, _, name = number.split("/")
    return _run(
        "logs", "--namespace", namespace, "--selector", f"{LABEL}={name}", "--container", "node", "--prefix", "--tail", str(lines),
        "--max-log-requests", "64", "--ignore-errors",
    )  # fmt: skip


def delete(number: str, *, wait: bool = False) -> None:
    """Take the workloads away; their pods get SIGTERM and write a checkpoint. Volumes stay."""
    namespace, workload, name = number.split("/")
    _run(
        "delete", ",".join(KINDS[workload]), "--namespace", namespace, "--selector", f"{LABEL}={name}", "--ignore-not-found",
        f"--wait={str(wait).lower()}",
    )  # fmt: skip


def again(path: Path, number: str) -> str:
    """Apply a job's manifests anew: what is left of it is taken away first, because its pods cannot be started twice."""
    delete(number, wait=True)
    return apply(path.read_text(encoding="utf-8"), path, number)


def _state(item: Mapping[str, Any]) -> str:
    conditions: Sequence[Mapping[str, Any]] = item.get("status", {}).get("conditions") or []
    true = {row.get("type") for row in conditions if row.get("status") == "True"}
    if "Failed" in true:
        return "failed"
    if true & {"Complete", "Completed"}:
        return "completed"
    return "suspended" if "Suspended" in true else "running"


def _run(*words: str) -> str:
    if shutil.which("kubectl") is None:
        raise ConfigError(
            "there is no kubectl here. Install it and choose a cluster (kubectl config use-context), or take the manifests of --dry-run."
        )
    try:
        ended = subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as err:
        raise FactoryError(
            f"kubectl {words[0]}: no answer within {LIMIT_S} s. Is the cluster reachable (kubectl cluster-info)?"
        ) from err
    if ended.returncode:
        raise FactoryError(f"kubectl {words[0]}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout
