"""One build over several machines: every node runs `factory node -- build ...`, the first conducts, the others lend their processes.

    node 0    factory build, launch.launcher=nodes;  each training stage:  lead()  --+--  torchrun, node rank 0
    node 1..  attend():  waits for a lead, starts what it asks for              <----+--  torchrun, node rank 1..

Lead and attendants talk over one TCP connection each (JSON lines in authenticated frames); the key lies in a file of mode 0600 on
the storage that all nodes share anyway. A lead may ask for nothing but a stage worker of this build. When a connection breaks, the
attendant ends what it runs and waits for the next lead, so a killed build leaves no process behind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge, wait
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, TrainingError

log = logging.getLogger(__name__)

NAME = "nodes"
WORKER = "factory.pipeline.worker"
RETRY_S, JOIN_S, HANDSHAKE_S = 0.3, 600.0, 10
"""Pause between two tries to reach a lead; how long a lead waits for all nodes to join a stage; for one's key."""
FIRST_PORT, NUM_PORTS = 20_000, 10_000


@dataclass(frozen=True)
class Place:
    """Which node of how many this is, and where the first one is found."""

    rank: int
    count: int
    address: str
    """Host name or IP of node 0, as the others reach it."""
    job: str
    """Name of the job; all its nodes agree on it."""

    @property
    def port(self) -> int:
        """Where a lead listens. From the job's name, so that two jobs on a machine do not meet; FACTORY_NODE_PORT overrides."""
        return int(os.environ.get("FACTORY_NODE_PORT") or FIRST_PORT + zlib.crc32(self.job.encode()) % NUM_PORTS)


SOURCES: tuple[tuple[str, dict[str, str]], ...] = (
    ("factory", {"rank": "FACTORY_NODE_RANK", "count": "FACTORY_NNODES", "address": "FACTORY_MASTER_ADDR", "job": "FACTORY_JOB"}),
    ("Kubeflow Trainer", {"rank": "PET_NODE_RANK", "count": "PET_NNODES", "address": "PET_MASTER_ADDR", "job": "FACTORY_JOB"}),
    ("Slurm", {"rank": "SLURM_NODEID", "count": "SLURM_NNODES", "address": "SLURM_LAUNCH_NODE_IPADDR", "job": "SLURM_JOB_ID"}),
)
"""Who sets which variables, the first that sets all of rank, count and address is believed."""


def read_place(env: Mapping[str, str]) -> Place:
    """This node's place, from the variables that the job system sets; alone when it sets none.

    Raises:
        ConfigError: variables that are no numbers, or a rank outside the count.
    """
    for who, names in SOURCES:
        found = {key: env.get(name, "") for key, name in names.items()}
        if not all(found[key] for key in ("rank", "count", "address")):
            continue
        try:
            place = Place(int(found["rank"]), int(found["count"]), found["address"], found["job"] or "job")
        except ValueError as err:
            raise ConfigError(
                f"{who}: {names['rank']}={found['rank']!r} and {names['count']}={found['count']!r} must be numbers."
            ) from err
        if not 0 <= place.rank < place.count:
            raise ConfigError(f"{who}: {names['rank']}={place.rank} is outside 0 to {names['count']}-1={place.count - 1}.")
        return place
    return Place(0, 1, "127.0.0.1", "job")


def read_key(home: Path, job: str) -> bytes:
    """The key that this job's nodes share: made by the first that asks, readable by the user alone. `home` is FACTORY_HOME."""
    path = home / "jobs" / job / "node.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".node.key-{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(32))
        os.fsync(file.fileno())
    try:
        # A link is either made whole or refused, also on NFS: the first node's key wins.
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
    return path.read_bytes()


def nodes_command(module: str, arguments: Sequence[str], processes: int) -> list[str]:
    """The launcher `nodes`: one process runs here, more are spread evenly over all nodes.

    Raises:
        ConfigError: `processes` is no multiple of the number of nodes.
    """
    place = read_place(os.environ)
    if processes == 1 or place.count == 1:
        from factory.launch.local import worker_command

        return worker_command(module, arguments, processes)
    if processes % place.count:
        raise ConfigError(
            f"launch.processes={processes} cannot be spread over {place.count} nodes. Set a multiple of {place.count}."
        )
    return [sys.executable, "-m", "factory.launch.nodes", str(processes // place.count), module, *arguments]


def torchrun(place: Place, per_node: int, master_port: int, module: str, arguments: Sequence[str]) -> list[str]:
    """This node's share of one stage."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", str(place.count), "--node-rank", str(place.rank),
        "--nproc-per-node", str(per_node), "--master-addr", place.address, "--master-port", str(master_port),
        "-m", module, *arguments,
    ]  # fmt: skip


def lead(place: Place, key: bytes, per_node: int, module: str, arguments: Sequence[str]) -> int:
    """Run one stage on all nodes; its exit status: 0, or that of the first node that failed.

    Raises:
        TrainingError: not all nodes joined in time. Names the missing ones.
    """
    with _listening(place) as listener:
        others = _joined(listener, place, key)
        master_port = free_port()
        for connection in others.values():
            _send(
                connection,
                {"do": "run", "module": module, "arguments": list(arguments), "per_node": per_node, "port": master_port},
            )
        own = subprocess.Popen(torchrun(place, per_node, master_port, module, arguments), start_new_session=False)
        try:
            return _watched(own, others)
        finally:
            if own.poll() is None:
                own.terminate()
                own.wait()
            for connection in others.values():
                connection.close()


def _watched(own: subprocess.Popen[bytes], others: dict[int, Connection]) -> int:
    """Wait for all nodes; the first failure ends the others."""
    running = dict(others)
    while running or own.poll() is None:
        if own.poll() not in (None, 0):
            return int(own.returncode)
        for connection in wait(list(running.values()), timeout=0.1):
            rank = next(rank for rank, one in running.items() if one is connection)
            said = _receive(connection)  # type: ignore[arg-type]
            if said is None or said.get("code") != 0:
                what = "was lost" if said is None else f"ended with status {said.get('code')}"
                print(f"node {rank} {what}; its own log has the reason", file=sys.stderr, flush=True)
                return 1 if said is None else int(said.get("code") or 1)
            del running[rank]
        if not running:
            time.sleep(0.05)
    return int(own.returncode)


def dismiss(place: Place, key: bytes) -> None:
    """Tell all attendants that the build has ended. Those that do not come within a minute are left to the job system."""
    if place.count == 1:
        return
    with contextlib.suppress(TrainingError), _listening(place) as listener:
        for connection in _joined(listener, place, key, within_s=60.0).values():
            _send(connection, {"do": "end"})
            connection.close()


def attend(place: Place, key: bytes, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """Do what leads ask for until the build has ended: 0 then, because node 0 alone tells the job system how the build ended."""
    while not is_stopped():
        try:
            connection = Client((place.address, place.port), authkey=key)
        except (OSError, EOFError, AuthenticationError):
            time.sleep(RETRY_S)
            continue
        with connection, contextlib.suppress(OSError):
            _send(connection, {"rank": place.rank})
            asked = _receive(connection, is_stopped)
            if asked is None:
                continue
            if asked.get("do") == "end":
                return 0
            _run_share(place, connection, asked)
    return 130


def _run_share(place: Place, connection: Connection, asked: Mapping[str, Any]) -> None:
    """Run what was asked for, report how it ended; stop it when the lead goes away. Refuses anything but a stage worker."""
    if asked.get("do") != "run" or asked.get("module") != WORKER:
        log.error("a lead asked for %r; refused", asked.get("module"))
        _send(connection, {"code": 2})
        return
    command = torchrun(place, int(asked["per_node"]), int(asked["port"]), WORKER, [str(word) for word in asked["arguments"]])
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while process.poll() is None:
            if connection.poll(0.1) and _receive(connection) is None:
                return
        _send(connection, {"code": process.returncode})
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _listening(place: Place) -> Iterator[Listener]:
    # On all interfaces: node 0 may know itself by another address than the others use. Frames are authenticated both ways.
    with Listener(("", place.port), backlog=place.count) as listener:
        yield listener


def _joined(listener: Listener, place: Place, key: bytes, within_s: float = JOIN_S) -> dict[int, Connection]:
    """A connection to every other node, by rank. Raises TrainingError when some do not come."""
    found: dict[int, Connection] = {}
    door: socket.socket = listener._listener._socket  # type: ignore[attr-defined]  # accept() has no time limit of its own
    door.settimeout(1.0)
    deadline = time.monotonic() + within_s
    while len(found) < place.count - 1:
        if time.monotonic() > deadline:
            missing = sorted(set(range(1, place.count)) - set(found))
            raise TrainingError(
                f"nodes {missing} of {place.count} did not join within {within_s:.0f} s. Look at their logs, and whether they "
                f"reach {place.address} port {place.port} (FACTORY_NODE_PORT sets another)."
            )
        try:
            connection = listener.accept()
            _shake_hands(connection, key)
            said = _receive(connection)
            rank = said.get("rank") if said else None
            if isinstance(rank, int) and 0 < rank < place.count:
                found[rank] = connection
            else:
                connection.close()
        except TimeoutError:
            continue
        except (OSError, EOFError, AuthenticationError) as err:
            log.warning("someone knocked who is no node of this job: %s", err)
    return found


def _shake_hands(connection: Connection, key: bytes) -> None:
    """Each side proves that it has the key, as `Client(authkey=...)` expects; someone who says nothing holds up nobody.

    Raises:
        AuthenticationError: another key. OSError, EOFError: silence, or gone.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", HANDSHAKE_S, 0))
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))


def _send(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.send_bytes(json.dumps(row).encode())


def _receive(connection: Connection, is_stopped: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
    """The next message; None when the other side is gone or talks nonsense. Bytes and JSON only: no pickle from the network."""
    try:
        while not connection.poll(0.5):
            if is_stopped():
                return None
        row = json.loads(connection.recv_bytes(1 << 20))
        return row if isinstance(row, dict) else None
    except (OSError, EOFError, ValueError):
        return None


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def main(words: Sequence[str]) -> int:
    """`python -m factory.launch.nodes PER_NODE MODULE ARGUMENTS...`: what the launcher `nodes` runs on node 0."""
    from factory.registry.home import Home

    place = read_place(os.environ)
    try:
        return lead(place, read_key(Home.find().root, place.job), int(words[0]), words[1], words[2:])
    except TrainingError as err:
        print(f"error: {err}", file=sys.stderr, flush=True)
        return err.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
