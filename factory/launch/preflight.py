"""The preflight of a job's nodes: storage, clocks, ports and versions looked at from all of them, before a stage is started.

    node 0    survey():  check ->            clock (x3) ->       peers ->             <- facts of each
    node 1..  answer():        <- its port         <- its time         reads tokens, connects to the others

Takes a second or so: nothing heavy is imported. Every node writes a token file and reads those of the others, so that storage which
only looks shared is found out; every node listens on a free port and connects to the others, as torch will.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import ConfigError, TrainingError
from factory.launch.node_facts import node_facts
from factory.launch.readiness import Row, faults, judge
from factory.launch.wire import peer_address, receive, send

if TYPE_CHECKING:
    from factory.launch.nodes import Place

SWITCH = "FACTORY_PREFLIGHT"
"""Environment variable: `off` starts a build on several nodes without this check."""
JOIN_S = 600.0
TOKEN_S, CONNECT_S, ANSWER_S, NUM_PINGS = 15.0, 5.0, 300.0, 3
"""How long a token file of another node may take to appear (NFS caches folders); to connect; to answer; clock measurements, of which the quickest counts."""


def survey(place: Place, key: bytes, home: Path, join_s: float = JOIN_S) -> list[Row]:
    """Look at all nodes of the job from node 0.

    Args:
        place: this node's; alone when its count is 1.
        join_s: how long the others may take to come.

    Raises:
        TrainingError: a node does not join, or is lost on the way.
    """
    from factory.launch import nodes

    folder = home / "jobs" / place.job / f"preflight-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        own_port = stack.enter_context(_open_port())
        others: dict[int, Connection] = {}
        if place.count > 1:
            others = nodes.joined(stack.enter_context(nodes.listening(place)), place, key, within_s=join_s)
            for connection in others.values():
                stack.callback(connection.close)
        is_writable = _write_token(folder, place.rank)
        ports = {rank: int(_asked(others, rank, {"do": "check", "folder": folder.name})["port"]) for rank in others}
        clocks = {rank: _clock(others, rank) for rank in others}
        peers = [[rank, peer_address(others[rank]), ports[rank]] for rank in others] + [[0, place.address, own_port]]
        for rank, connection in others.items():
            _sent(rank, connection, {"do": "peers", "peers": peers})
        found = {0: _look(folder, place.rank, peers, is_writable, home) | {"offset_s": 0.0, "doubt_s": 0.0}}
        for rank in others:
            offset, doubt = clocks[rank]
            found[rank] = _told(others, rank) | {"offset_s": offset, "doubt_s": doubt}
    return judge([found[rank] for rank in sorted(found)])


def refuse_unready(place: Place, key: bytes, home: Path) -> list[Row]:
    """The check before a build on several nodes. Raises ConfigError that names every fault with its remedy."""
    if os.environ.get(SWITCH) == "off":
        return []
    rows = survey(place, key, home)
    wrong = faults(rows)
    if wrong:
        told = "\n".join(f"  {row.check}: {row.found}. {row.remedy}" for row in wrong)
        raise ConfigError(
            f"the {place.count} nodes of {place.job} are not ready:\n{told}\nSet {SWITCH}=off to start all the same."
        )
    return rows


def answer(place: Place, connection: Connection, asked: Mapping[str, Any]) -> None:
    """An attendant's side: `asked` is the lead's `check`. Ends when the facts are told or the lead is gone."""
    from factory.registry.home import Home

    home = Home.find().root
    # Only the last part of a name is taken from the network.
    folder = home / "jobs" / place.job / Path(str(asked["folder"])).name
    with _open_port() as port:
        is_writable = _write_token(folder, place.rank)
        send(connection, {"port": port})
        while (row := receive(connection)) is not None:
            if row.get("do") == "clock":
                send(connection, {"time": time.time()})
            elif row.get("do") == "peers":
                send(connection, _look(folder, place.rank, row["peers"], is_writable, home))
                return


def _look(folder: Path, rank: int, peers: Sequence[Sequence[Any]], is_writable: bool, home: Path) -> dict[str, Any]:
    """This node's facts, with whose tokens it reads and whom it does not reach."""
    deadline = time.monotonic() + TOKEN_S
    missing = {int(peer[0]) for peer in peers}
    while missing and time.monotonic() < deadline:
        missing = {other for other in missing if not _has_token(folder, other)}
        if missing:
            time.sleep(0.1)
    tokens = sorted({int(peer[0]) for peer in peers} - missing)
    lost = [int(other) for other, host, port in peers if int(other) != rank and not _is_reached(str(host), int(port))]
    return node_facts(home) | {"tokens": tokens, "unreachable": lost, "writable": is_writable}


def _write_token(folder: Path, rank: int) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{rank}.part").open("w", encoding="utf-8") as file:
            file.write(_token(folder, rank))
            file.flush()
            os.fsync(file.fileno())
        (folder / f"{rank}.part").rename(folder / str(rank))
    except OSError:
        return False
    return True


def _has_token(folder: Path, rank: int) -> bool:
    try:
        return (folder / str(rank)).read_text(encoding="utf-8") == _token(folder, rank)
    except OSError:
        return False


def _token(folder: Path, rank: int) -> str:
    return f"{folder.name} {rank}\n"


@contextlib.contextmanager
def _open_port() -> Iterator[int]:
    """A free TCP port on all interfaces that accepts and at once closes connections."""
    with socket.create_server(("", 0), backlog=128) as door:
        door.settimeout(0.2)
        is_over = threading.Event()

        def serve() -> None:
            while not is_over.is_set():
                with contextlib.suppress(OSError):
                    door.accept()[0].close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(door.getsockname()[1])
        finally:
            is_over.set()
            thread.join()


def _is_reached(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True


def _clock(others: Mapping[int, Connection], rank: int) -> tuple[float, float]:
    """(the node's clock minus ours, half the round trip), in seconds, of the quickest of a few tries."""
    tries = []
    for _ in range(NUM_PINGS):
        began = time.time()
        theirs = float(_asked(others, rank, {"do": "clock"})["time"])
        ended = time.time()
        tries.append((ended - began, theirs - (began + ended) / 2))
    trip, offset = min(tries)
    return offset, trip / 2


def _asked(others: Mapping[int, Connection], rank: int, row: Mapping[str, Any]) -> dict[str, Any]:
    _sent(rank, others[rank], row)
    return _told(others, rank)


def _sent(rank: int, connection: Connection, row: Mapping[str, Any]) -> None:
    try:
        send(connection, row)
    except OSError as err:
        raise TrainingError(f"node {rank} was lost in the preflight ({err}); its own log has the reason.") from err


def _told(others: Mapping[int, Connection], rank: int) -> dict[str, Any]:
    deadline = time.monotonic() + ANSWER_S
    row = receive(others[rank], lambda: time.monotonic() > deadline)
    if row is None:
        raise TrainingError(
            f"node {rank} was lost in the preflight, or said nothing for {ANSWER_S:.0f} s (storage that hangs?); its own log has the reason."
        )
    return row
