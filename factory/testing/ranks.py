"""Run a script as several processes of one training, as torchrun would, for tests that compare 1 process with 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_ranks(script: Path | str, arguments: Sequence[str], *, world: int, timeout_s: float = 240.0) -> None:
    """Start `python SCRIPT ARGUMENTS` once per rank (gloo on this machine, one OpenMP thread each) and wait for all.

    With `world` 1 no rank is set at all, so that the script runs as a single process does. `script` is a file, or the code
    itself as text; a file's own folder and this process's import path come first on its path.

    Raises:
        AssertionError: a process failed; with the end of its output. All are killed before that.
        subprocess.TimeoutExpired: a process did not end in `timeout_s`.
    """
    is_file = isinstance(script, Path)
    own = [str(script.parent)] if isinstance(script, Path) else []
    path = os.pathsep.join(os.path.abspath(entry) for entry in [*own, *sys.path])
    common = {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, *([str(script)] if is_file else ["-c", str(script)]), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=common | ({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)} if world > 1 else {}),
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        for rank, process in enumerate(ranks):
            output, _ = process.communicate(timeout=timeout_s)
            if process.returncode:
                raise AssertionError(f"rank {rank} of {world} ended with {process.returncode}:\n{output.decode()[-3000:]}")
    finally:
        for process in ranks:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
