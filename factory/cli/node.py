"""`factory node`: this machine's part of a build that runs on several; job systems start it once on every node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from factory.errors import ConfigError, FactoryError
from factory.launch.guard import command_under_guard
from factory.registry.files import write_atomic

GRACE_S = "FACTORY_GRACE_S"
"""Environment variable: seconds from SIGTERM until the build is stopped without a checkpoint of its own."""
ALIVE_FILE = "FACTORY_ALIVE_FILE"
"""Environment variable: a file that is touched while this process answers, for a liveness probe."""
EXIT_FILE = "FACTORY_EXIT_FILE"
"""Environment variable: where the first node writes the build's exit code. A job system that ends the other nodes when the first
one leaves reports theirs."""
ALIVE_S, AGAIN_S = 5.0, 2.0
RUNS = ("build", "doctor")


def node(
    command: Annotated[list[str], typer.Argument(help="What the first node runs, such as: build --domain music")],
) -> None:
    """Run a build's command on the first node and lend this machine to it on the others. SIGUSR1 or SIGTERM: checkpoint, then stop."""
    from factory.launch.nodes import NAME, attend, dismiss, read_key, read_place
    from factory.launch.preflight import refuse_unready
    from factory.registry.home import Home

    if not command or command[0] not in RUNS:
        raise ConfigError(
            f"factory node runs a build, or doctor --cluster, got {' '.join(command) or 'nothing'}. Write: factory node -- build --domain NAME"
        )
    place = read_place(os.environ)
    home = Home.find().root
    key = read_key(home, place.job)
    alive = _Alive(os.environ.get(ALIVE_FILE, ""))
    if place.rank > 0:
        told = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told.set())
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise typer.Exit(attend(place, key, lambda: alive.beat() or told.is_set()))
    try:
        words = [*command, "--set", f"launch.launcher={NAME}"] if place.count > 1 and command[0] == "build" else command
        if place.count > 1 and command[0] == "build":
            refuse_unready(place, key, home)
        code = _conducted([sys.executable, "-c", "from factory.cli.app import main; main()", *words], alive)
    except FactoryError as err:
        _tell(err.exit_code)
        dismiss(place, key)
        raise
    _tell(code)
    dismiss(place, key)
    raise typer.Exit(code)


def _tell(code: int) -> None:
    path = os.environ.get(EXIT_FILE)
    if path:
        write_atomic(Path(path), f"{code}\n")


class _Alive:
    """Touches a file every few seconds while its owner asks it to; nothing without a file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path) if path else None
        self.due = 0.0

    def beat(self) -> bool:
        """Touch the file when it is time. Always False, so that it fits into a question."""
        if self.path is not None and time.monotonic() >= self.due:
            self.path.touch()
            self.due = time.monotonic() + ALIVE_S
        return False


def _conducted(command: list[str], alive: _Alive) -> int:
    """Run the build; pass SIGUSR1 on, and take SIGTERM as the same, with SIGTERM itself after the grace.

    The build dies with this process, and its workers with the build: a killed node leaves nothing that holds its port.
    """
    grace_s = float(os.environ.get(GRACE_S, "60"))
    is_asked, ends_at, due = threading.Event(), [float("inf")], 0.0

    def stop(*_: object) -> None:
        is_asked.set()
        ends_at[0] = min(ends_at[0], time.monotonic() + grace_s)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited: until the build has a handler, the signal must not kill it
    process = subprocess.Popen(command_under_guard(command))
    signal.signal(signal.SIGUSR1, lambda *_: is_asked.set())
    while process.poll() is None:
        alive.beat()
        if is_asked.is_set() and time.monotonic() >= due:
            # Again and again: a build that has only just begun does not listen yet.
            process.send_signal(signal.SIGUSR1)
            due = time.monotonic() + AGAIN_S
        if time.monotonic() >= ends_at[0]:
            process.terminate()
            ends_at[0] = float("inf")
        time.sleep(0.1)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
