"""One build over several machines: every node runs `factory node -- build ...`, the first conducts, the others lend their processes.

    node 0    factory build, launch.launcher=nodes;  each training stage:  lead()  --+--  torchrun, node rank 0
    node 1..  attend():  waits for a lead, starts what it asks for              <----+--  torchrun, node rank 1..

Lead and attendants talk over one TCP connection each (JSON lines in authenticated frames); the key lies in a file of mode 0600 on
the storage that all nodes share anyway. A lead may ask for nothing but a stage worker of this build, the all-reduce of the
preflight, and what that asks (preflight.py). When a connection breaks, the attendant ends what it runs and waits for the next lead,
so a killed build leaves no process behind. An attendant that is asked to go (SIGTERM: its machine is drained) tells the lead, which
lets the whole build make room after a checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, TrainingError
from factory.launch.wire import receive, send, shake_hands

log = logging.getLogger(__name__)

NAME = "nodes"
WORKER = "factory.pipeline.worker"
PROBE = "factory.launch.allreduce"
ROOM = {"do": "make room"}
"""What an attendant sends whose machine is about to be taken away."""
RETRY_S, JOIN_S, HANDSHAKE_S = 0.3, 600.0, 10
"""Pause between two tries to reach a lead; how long a lead waits for all nodes to join a stage; for one's key."""
FIRST_PORT, NUM_PORTS, KEY_BYTES = 20_000, 10_000, 32


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
            raise ConfigError(
                f"{who}: {names['rank']}={place.rank} is outside 0 to {names['count']}-1={place.count - 1}. Correct it."
            )
        return place
    return Place(0, 1, "127.0.0.1", "job")


def read_key(home: Path, job: str) -> bytes:
    """The key that this job's nodes share: made by the first that asks, readable by the user alone. `home` is FACTORY_HOME.

    Raises:
        ConfigError: `home` cannot be written.
    """
    path = home / "jobs" / job / "node.key"
    fresh = path.with_name(f".node.key-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_key(fresh)
        try:
            # A link is either made whole or refused, also on NFS: the first node's key wins.
            os.link(fresh, path)
        except FileExistsError:
            log.debug("%s is there already", path)
        except OSError as err:
            log.debug("%s: no hard links here (%s)", path.parent, err)
            with contextlib.suppress(FileExistsError):
                _write_key(path)
        finally:
            fresh.unlink()
        for _ in range(100):
            if len(key := path.read_bytes()) == KEY_BYTES:
                return key
            time.sleep(0.1)  # another node writes it just now
    except OSError as err:
        raise ConfigError(
            f"{path.parent} cannot be used: {err.strerror}. FACTORY_HOME must be a folder that all nodes can write."
        ) from err
    raise ConfigError(f"{path} holds no key. Delete it and start the job again.")


def _write_key(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())


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


def lead(
    place: Place, key: bytes, per_node: int, module: str, arguments: Sequence[str], on_room: Callable[[], None] = lambda: None
) -> int:  # fmt: skip
    """Run one stage on all nodes; its exit status: 0, or that of the first node that failed.

    Args:
        on_room: called when a node has to go soon and asks for a checkpoint.

    Raises:
        TrainingError: not all nodes joined in time. Names the missing ones.
    """
    with listening(place) as listener:
        others = joined(listener, place, key)
        master_port = free_port()
        for connection in others.values():
            send(
                connection,
                {"do": "run", "module": module, "arguments": list(arguments), "per_node": per_node, "port": master_port},
            )
        own = subprocess.Popen(torchrun(place, per_node, master_port, module, arguments), start_new_session=False)
        try:
            return _watched(own, others, on_room)
        finally:
            if own.poll() is None:
                own.terminate()
                own.wait()
            for connection in others.values():
                connection.close()


def _watched(own: subprocess.Popen[bytes], others: dict[int, Connection], on_room: Callable[[], None]) -> int:
    """Wait for all nodes; the first failure ends the others."""
    running = dict(others)
    while running or own.poll() is None:
        if own.poll() not in (None, 0):
            return int(own.returncode)
        for connection in wait(list(running.values()), timeout=0.1):
            rank = next(rank for rank, one in running.items() if one is connection)
            said = receive(connection)  # type: ignore[arg-type]
            if said == ROOM:
                print(f"node {rank} has to go: asking for a checkpoint", file=sys.stderr, flush=True)
                on_room()
                continue
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
    with contextlib.suppress(TrainingError), listening(place) as listener:
        for connection in joined(listener, place, key, within_s=60.0).values():
            send(connection, {"do": "end"})
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
            send(connection, {"rank": place.rank})
            asked = receive(connection, is_stopped)
            if asked is None:
                continue
            if asked.get("do") == "end":
                return 0
            if asked.get("do") == "check":
                from factory.launch import preflight

                preflight.answer(place, connection, asked)
                continue
            _run_share(place, connection, asked, is_stopped)
    return 130


def _run_share(place: Place, connection: Connection, asked: Mapping[str, Any], is_stopped: Callable[[], bool]) -> None:
    """Run what was asked for, report how it ended; stop it when the lead goes away. Refuses anything but a stage worker."""
    if asked.get("do") != "run" or asked.get("module") not in (WORKER, PROBE):
        log.error("a lead asked for %r; refused", asked.get("module"))
        send(connection, {"code": 2})
        return
    arguments = [str(word) for word in asked["arguments"]]
    command = torchrun(place, int(asked["per_node"]), int(asked["port"]), str(asked["module"]), arguments)
    process = subprocess.Popen(command, start_new_session=True)
    has_asked = False
    try:
        while process.poll() is None:
            if connection.poll(0.1) and receive(connection) is None:
                return
            if is_stopped() and not has_asked:
                has_asked = True
                send(connection, ROOM)
        send(connection, {"code": process.returncode})
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def listening(place: Place) -> Iterator[Listener]:
    """Node 0's door. Raises ConfigError when its port is taken."""
    try:
        # On all interfaces: node 0 may know itself by another address than the others use. Frames are authenticated both ways.
        listener = Listener(("", place.port), backlog=place.count)
    except OSError as err:
        raise ConfigError(
            f"node 0 cannot listen on port {place.port}: {err.strerror}. Set FACTORY_NODE_PORT to a free one, the same on all nodes."
        ) from err
    with listener:
        yield listener


def joined(listener: Listener, place: Place, key: bytes, within_s: float = JOIN_S) -> dict[int, Connection]:
    """A connection to every other node, by rank. Raises TrainingError when some do not come."""
    found: dict[int, Connection] = {}
    num_strangers = 0
    door: socket.socket = listener._listener._socket  # type: ignore[attr-defined]  # accept() has no time limit of its own
    door.settimeout(1.0)
    deadline = time.monotonic() + within_s
    while len(found) < place.count - 1:
        if time.monotonic() > deadline:
            missing = sorted(set(range(1, place.count)) - set(found))
            raise TrainingError(
                f"nodes {missing} of {place.count} did not join within {within_s:.0f} s. Look at their logs, and whether they "
                f"reach {place.address} port {place.port} (FACTORY_NODE_PORT sets another)."
                + (f" {num_strangers} tries came with another key: FACTORY_HOME must be one folder on storage that all nodes share."
                   if num_strangers else "")
            )  # fmt: skip
        try:
            connection = listener.accept()
            shake_hands(connection, key, HANDSHAKE_S)
            said = receive(connection)
            rank = said.get("rank") if said else None
            if isinstance(rank, int) and 0 < rank < place.count:
                found[rank] = connection
            else:
                connection.close()
        except TimeoutError:
            continue
        except (OSError, EOFError, AuthenticationError) as err:
            num_strangers += isinstance(err, AuthenticationError)
            log.warning("someone knocked who is no node of this job: %s", err)
    return found


def free_port() -> int:
    """A TCP port of this machine that nothing listens on.

    Below the ports that the system gives to outgoing connections (32768 and up): one of those may be taken before torchrun opens it.
    """
    for _ in range(100):
        port = FIRST_PORT + secrets.randbelow(NUM_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise TrainingError(f"no free TCP port between {FIRST_PORT} and {FIRST_PORT + NUM_PORTS}. See what listens there: ss -tlnp")


def main(words: Sequence[str]) -> int:
    """`python -m factory.launch.nodes PER_NODE MODULE ARGUMENTS...`: what the launcher `nodes` runs on node 0."""
    from factory.registry.home import Home

    place = read_place(os.environ)
    try:
        key = read_key(Home.find().root, place.job)
        return lead(place, key, int(words[0]), words[1], words[2:], on_room=lambda: os.kill(os.getppid(), signal.SIGUSR1))
    except TrainingError as err:
        print(f"error: {err}", file=sys.stderr, flush=True)
        return err.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
