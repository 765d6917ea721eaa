"""Tie a process to the life of its parent: when the parent dies, even by kill -9, the kernel kills the child.

    python -m factory.launch.guard PARENT_PID COMMAND …    # sets the tie, then becomes COMMAND

Linux only (PR_SET_PDEATHSIG); elsewhere the command simply runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL at the parent's death; exit at once when it is dead already."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died between fork and prctl; then we were given to another parent.
    if os.getppid() != parent_pid:
        os._exit(1)


def command_under_guard(command: Sequence[str]) -> list[str]:
    """The command line that ties `command` to this process."""
    return [sys.executable, "-m", "factory.launch.guard", str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Set the tie and replace this process by the command, which and whose children then ignore SIGUSR1.

    Job systems send that signal to every process of a job (Slurm's --signal); only the conductor answers it.
    """
    die_with_parent(int(arguments[0]))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
