"""`--cluster local`: a build in the background of this machine that outlives the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from factory.launch.submission import Submission


def start(job: Submission, folder: Path) -> str:
    """Start the build detached, its output in `<name>-local.log` of the folder; its process number and start time."""
    folder.mkdir(parents=True, exist_ok=True)
    return run(job.words, folder)


def run(words: Sequence[str], folder: Path) -> str:
    """As `start`, for the words of a recorded job."""
    command = [sys.executable, "-c", "from factory.cli.app import main; main()", *words]
    with (folder / f"{folder.name}-local.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    return f"{process.pid}.{_born(process.pid)}"


def state(number: str) -> str:
    """`running` or `ended`."""
    pid, _, born = number.partition(".")
    return "running" if pid.isdecimal() and born and _born(int(pid)) == born else "ended"


def cancel(number: str) -> None:
    """Ask it to stop, as Ctrl-C would; a job that has ended is left alone."""
    if state(number) == "running":
        os.kill(int(number.partition(".")[0]), signal.SIGTERM)


def _born(pid: int) -> str:
    """When the process started, in clock ticks since boot; empty when it is gone. A number alone may belong to another process later."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
