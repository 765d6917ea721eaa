"""Judges what the nodes of a job found: one row for each check, with what to do where something is wrong. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 2**30
FEW_BYTES, TOO_FEW_BYTES = {"memory": 3 * GIB, "disk": 5 * GIB}, {"memory": GIB, "disk": GIB}
"""Below the first a row is a note, below the second a fault."""
MAX_SKEW_S = 5.0
"""Clocks further apart break lock files, logs and certificates; NTP keeps them within milliseconds."""
MUST_AGREE = ("factory", "python", "torch", "transformers", "accelerate", "deepspeed", "peft")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    state: str
    """`ok`, `note` or `fault`."""
    found: str
    remedy: str = ""


def judge(nodes: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows for the facts of all nodes, node 0 first.

    Args:
        nodes: `node_facts` of each, with `tokens` (ranks whose token file it could read), `unreachable` (ranks that it could not
            connect to), `writable`, `offset_s` (its clock minus node 0's) and `doubt_s` (half the round trip of that measurement).
    """
    return [
        _gpus(nodes), _driver(nodes), _nccl(nodes), _storage(nodes), _clock(nodes), _ports(nodes),
        _room(nodes, "memory", "Ask for more memory (--memory), or end what else runs there."),
        _room(nodes, "disk", "Make room on the disk of FACTORY_HOME, or move FACTORY_HOME to a larger one."),
        *_versions(nodes),
    ]  # fmt: skip


def faults(rows: Sequence[Row]) -> list[Row]:
    """The rows that a build would fail of."""
    return [row for row in rows if row.state == "fault"]


def _gpus(nodes: Sequence[Mapping[str, Any]]) -> Row:
    kinds = [
        f"{node['gpus']} x {'/'.join(sorted(set(node['gpu_names']))) or 'GPU'}" if node["gpus"] else "none" for node in nodes
    ]
    if len(set(kinds)) > 1:
        return Row(
            "gpus",
            "fault",
            _spread(nodes, kinds),
            "All nodes need the same GPUs: ask for one kind, or leave the odd node out (--extra=--exclude=NODE).",
        )
    no_cuda = [node["host"] for node in nodes if node["gpus"] and "+cpu" in node["versions"].get("torch", "")]
    if no_cuda:
        return Row(
            "gpus",
            "fault",
            f"{kinds[0]}, but torch is a CPU build on {', '.join(no_cuda)}",
            "Install a CUDA build of torch there.",
        )
    return Row("gpus", "ok", f"{kinds[0]} on each node" if nodes[0]["gpus"] else "none; stages run on the CPU")


def _driver(nodes: Sequence[Mapping[str, Any]]) -> Row:
    drivers = [node["driver"] or "none" for node in nodes]
    if not any(node["gpus"] for node in nodes):
        return Row("driver", "ok", "not needed without GPUs")
    lacking = [node["host"] for node in nodes if node["gpus"] and not node["driver"]]
    if lacking:
        return Row(
            "driver",
            "fault",
            f"GPUs without a driver that answers on {', '.join(lacking)}",
            "Load the NVIDIA driver; in a container: --nv (apptainer), the NVIDIA runtime (Kubernetes).",
        )
    if len(set(drivers)) > 1:
        return Row(
            "driver", "fault", _spread(nodes, drivers), "Bring all nodes to one driver: NCCL may hang between different ones."
        )
    return Row("driver", "ok", drivers[0])


def _nccl(nodes: Sequence[Mapping[str, Any]]) -> Row:
    found = [node["nccl"] or "none" for node in nodes]
    if not any(node["gpus"] for node in nodes):
        return Row("nccl", "ok", "not needed without GPUs; gloo is used")
    if len(set(found)) > 1:
        return Row(
            "nccl",
            "fault",
            _spread(nodes, found),
            "Install the same packages on all nodes (one image, or one environment on shared storage).",
        )
    return Row("nccl", "ok", found[0] if found[0] != "none" else "the one that torch brings")


def _storage(nodes: Sequence[Mapping[str, Any]]) -> Row:
    home, ranks = nodes[0]["home"], set(range(len(nodes)))
    unwritable = [node["host"] for node in nodes if not node["writable"]]
    if unwritable:
        return Row(
            "shared storage",
            "fault",
            f"{home} cannot be written on {', '.join(unwritable)}",
            "Give the job's user the right to write there (Kubernetes: fsGroup of the volume).",
        )
    blind = [
        f"{node['host']} sees no file of {_ranks(ranks - set(node['tokens']))}" for node in nodes if ranks - set(node["tokens"])
    ]
    if blind:
        return Row(
            "shared storage",
            "fault",
            f"{home}: {'; '.join(blind)}",
            "FACTORY_HOME must be one folder on storage that all nodes share (NFS, Lustre, a ReadWriteMany volume).",
        )
    told = f"{home}: every node reads what the others wrote" if len(nodes) > 1 else f"{home}, writable"
    return Row("shared storage", "ok", told)


def _clock(nodes: Sequence[Mapping[str, Any]]) -> Row:
    if len(nodes) == 1:
        return Row("clock", "ok", "one node")
    worst = max(nodes, key=lambda node: abs(node["offset_s"]))
    told = f"at most {abs(worst['offset_s']):.3f} s apart (measured to {worst['doubt_s']:.3f} s)"
    if abs(worst["offset_s"]) - worst["doubt_s"] > MAX_SKEW_S:
        return Row(
            "clock",
            "fault",
            f"{worst['host']} is {worst['offset_s']:+.1f} s from node 0",
            "Start a time service there (chrony, ntpd, systemd-timesyncd).",
        )
    return Row("clock", "ok", told)


def _ports(nodes: Sequence[Mapping[str, Any]]) -> Row:
    if len(nodes) == 1:
        return Row("ports", "ok", "one node")
    cut = [f"{node['host']} does not reach {_ranks(node['unreachable'])}" for node in nodes if node["unreachable"]]
    if cut:
        return Row(
            "ports",
            "fault",
            "; ".join(cut),
            "torch takes any free TCP port: open all ports between the nodes (firewall, NetworkPolicy), or name the right network: NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME.",
        )
    return Row("ports", "ok", "every node reaches every other on a free port")


def _room(nodes: Sequence[Mapping[str, Any]], what: str, remedy: str) -> Row:
    known = [node for node in nodes if node[what] is not None]
    if not known:
        return Row(what, "note", "cannot be read on this system")
    least = min(known, key=lambda node: node[what])
    state = "fault" if least[what] < TOO_FEW_BYTES[what] else "note" if least[what] < FEW_BYTES[what] else "ok"
    where = f" on {least['host']}, the least" if len(nodes) > 1 else ""
    return Row(what, state, f"{least[what] / GIB:.1f} GiB free{where}", remedy if state != "ok" else "")


def _versions(nodes: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = []
    for name in MUST_AGREE:
        found = [node["versions"].get(name) or "not installed" for node in nodes]
        if len(set(found)) > 1:
            rows.append(
                Row(
                    name,
                    "fault",
                    _spread(nodes, found),
                    "Install the same versions on all nodes (one image, or one environment on shared storage).",
                )
            )
        elif found[0] == "not installed":
            needed = name not in ("deepspeed",)
            rows.append(
                Row(
                    name,
                    "fault" if needed else "note",
                    found[0],
                    f"pip install -c constraints.txt {name}" if needed else "Only launch.zero_stage above 0 uses it.",
                )
            )
        else:
            rows.append(Row(name, "ok", found[0]))
    return rows


def _spread(nodes: Sequence[Mapping[str, Any]], values: Sequence[str]) -> str:
    """`570.86 on a, b; 550.1 on c`."""
    hosts = defaultdict(list)
    for node, value in zip(nodes, values, strict=True):
        hosts[value].append(node["host"])
    return "; ".join(f"{value} on {', '.join(names)}" for value, names in hosts.items())


def _ranks(ranks: Any) -> str:
    return "node " + ", ".join(str(rank) for rank in sorted(ranks))
