"""`factory doctor --cluster`: the same questions to every node of a job, and one table of the answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from factory.cli.output import emit_json, say, table
from factory.errors import ConfigError, FactoryError

if TYPE_CHECKING:
    from factory.launch.nodes import Place
    from factory.launch.readiness import Row

JOIN_S = 120.0


def check_cluster(nodes: int, extra: Sequence[str], *, as_json: bool) -> None:
    """Check the nodes of the job that this runs in; `nodes` of a Slurm cluster when it runs in none; else this machine alone.

    Raises:
        ConfigError: on a node that is not the first, or without srun. typer.Exit(1): a check found a fault.
    """
    from factory.launch.nodes import read_place

    if words := _through_srun(os.environ, nodes, extra, as_json):
        raise typer.Exit(subprocess.run(words).returncode)
    place = read_place(os.environ)
    if place.rank:
        raise ConfigError(f"this is node {place.rank}; start it on all nodes as: factory node -- doctor --cluster")
    rows = [*_surveyed(place)]
    wrong = [row for row in rows if row.state == "fault"]
    if as_json:
        emit_json({"ready": not wrong, "nodes": place.count, "findings": [asdict(row) for row in rows]})
    else:
        say(table(("check", "state", "found", "what to do"), [(row.check, row.state, row.found, row.remedy) for row in rows]))
        who = f"{place.count} nodes are" if place.count > 1 else "this node is"
        say(f"{who} ready" if not wrong else f"{len(wrong)} faults: a build would fail until they are mended")
    if wrong:
        raise typer.Exit(1)


def _through_srun(env: Mapping[str, str], nodes: int, extra: Sequence[str], as_json: bool) -> list[str]:
    """The srun command that runs this check on all nodes; empty when it runs where it is.

    Inside an allocation (salloc, sbatch) srun takes the allocation's nodes; inside a step nothing is started again.
    """
    in_step = "SLURM_STEP_ID" in env and "SLURM_NODEID" in env
    in_job = "SLURM_JOB_ID" in env and int(env.get("SLURM_NNODES", env.get("SLURM_JOB_NUM_NODES", "1"))) > 1
    if in_step or not (nodes > 1 or in_job) or "PET_NNODES" in env or "FACTORY_NNODES" in env:
        return []
    if shutil.which("srun") is None:
        raise ConfigError(
            "there is no srun here. Run it on a login node, or start on each node: factory node -- doctor --cluster"
        )
    wanted = [f"--nodes={nodes}", f"--ntasks={nodes}"] if nodes > 1 else []
    program = [sys.executable, "-c", "from factory.cli.app import main; main()"]
    return [
        "srun", *wanted, "--ntasks-per-node=1", "--input=none", "--kill-on-bad-exit=1", *extra, *program, "node", "--",
        "doctor", "--cluster", *(["--json"] if as_json else []),
    ]  # fmt: skip


def _surveyed(place: Place) -> list[Row]:
    from factory.launch.nodes import read_key
    from factory.launch.preflight import survey
    from factory.launch.readiness import faults
    from factory.registry.home import Home

    home = Home.find().root
    key = read_key(home, place.job)
    rows = survey(place, key, home, JOIN_S)
    if faults(rows):
        return rows
    return [*rows, _summed(place, key, home)]


def _summed(place: Place, key: bytes, home: Path) -> Row:
    """A sum over one process of each GPU (or node), which NCCL or gloo must get right."""
    from factory.launch.devices import num_gpus
    from factory.launch.nodes import PROBE, free_port, lead, torchrun
    from factory.launch.readiness import Row
    from factory.registry.files import read_json

    per_node = num_gpus() or (1 if place.count > 1 else 2)
    with tempfile.TemporaryDirectory(dir=home / "jobs" / place.job) as folder:
        path = Path(folder) / "sum.json"
        if place.count > 1:
            code = lead(place, key, per_node, PROBE, [str(path)])
        else:
            code = subprocess.run(torchrun(place, per_node, free_port(), PROBE, [str(path)]), stdout=sys.stderr).returncode
        if code or not path.is_file():
            remedy = (
                "Set NCCL_DEBUG=INFO (or TORCH_DISTRIBUTED_DEBUG=DETAIL) and run it again; NCCL_SOCKET_IFNAME names the network."
            )
            return Row("all-reduce", "fault", f"ended with status {code}; what the processes said is above", remedy)
        try:
            told = read_json(path)
        except FactoryError as err:
            return Row("all-reduce", "fault", str(err), "FACTORY_HOME must be one folder for all nodes.")
    rate = told["bytes"] / told["seconds"] / 1e9
    nccl = f" {told['nccl']}" if told["nccl"] else ""
    found = f"{told['processes']} processes, {told['backend']}{nccl}: {told['bytes'] // 2**20} MiB in {1000 * told['seconds']:.1f} ms ({rate:.2f} GB/s)"
    return Row("all-reduce", "ok", found)
