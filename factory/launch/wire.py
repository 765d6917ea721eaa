"""What two nodes of a job say to each other: JSON rows in frames, after each side has proved that it has the job's key. Never pickle."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any


def shake_hands(connection: Connection, key: bytes, within_s: int) -> None:
    """Each side proves that it has the key, as `Client(authkey=...)` expects; someone who says nothing holds up nobody.

    Raises:
        AuthenticationError: another key. OSError, EOFError: silence, or gone.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", within_s, 0))
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))


def send(connection: Connection, row: Mapping[str, Any]) -> None:
    """Send one row."""
    connection.send_bytes(json.dumps(row).encode())


def receive(connection: Connection, is_stopped: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
    """The next message; None when the other side is gone or talks nonsense. Bytes and JSON only: no pickle from the network."""
    try:
        while not connection.poll(0.5):
            if is_stopped():
                return None
        row = json.loads(connection.recv_bytes(1 << 20))
        return row if isinstance(row, dict) else None
    except (OSError, EOFError, ValueError):
        return None


def peer_address(connection: Connection) -> str:
    """The IP address of the other side."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        return str(same.getpeername()[0])
