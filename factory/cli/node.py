"""`factory node`: this machine's part of a build that runs on several; job systems start it once on every node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Annotated

import typer

from factory.errors import ConfigError

GRACE_S = "FACTORY_GRACE_S"
"""Environment variable: seconds from SIGTERM until the build is stopped without a checkpoint of its own."""


def node(
    command: Annotated[list[str], typer.Argument(help="What the first node runs, such as: build --domain music")],
) -> None:
    """Run a build's command on the first node and lend this machine to it on the others. SIGUSR1 or SIGTERM: checkpoint, then stop."""
    from factory.launch.nodes import NAME, attend, dismiss, read_key, read_place
    from factory.registry.home import Home

    if not command or command[0] != "build":
        raise ConfigError(
            f"factory node runs a build, got {' '.join(command) or 'nothing'}. Write: factory node -- build --domain NAME"
        )
    place = read_place(os.environ)
    key = read_key(Home.find().root, place.job)
    if place.rank > 0:
        told = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told.set())
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise typer.Exit(attend(place, key, told.is_set))
    words = [*command, "--set", f"launch.launcher={NAME}"] if place.count > 1 else command
    code = _conducted([sys.executable, "-c", "from factory.cli.app import main; main()", *words])
    dismiss(place, key)
    raise typer.Exit(code)


def _conducted(command: list[str]) -> int:
    """Run the build; pass SIGUSR1 on, and take SIGTERM as the same, with SIGTERM itself after the grace."""
    process = subprocess.Popen(command)
    grace_s = float(os.environ.get(GRACE_S, "60"))

    def make_room(*_: object) -> None:
        process.send_signal(signal.SIGUSR1)

    def stop(*_: object) -> None:
        make_room()
        timer = threading.Timer(grace_s, process.terminate)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGUSR1, make_room)
    signal.signal(signal.SIGTERM, stop)
    while process.poll() is None:
        time.sleep(0.1)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
