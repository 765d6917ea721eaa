"""Run a vLLM server and leave nothing behind: `python vllm_child.py PARENT_PID COMMAND …`, started as leader of its own session.

The server has children of its own that outlive a killed parent and keep its memory. So this small program stays between: when the
training process dies, or the server does, the whole session is killed. Standard library only, so that it needs no import path.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1


def main(parent_pid: int, command: list[str]) -> None:
    """Start the command, wait for it, then kill every process of this session (this one included)."""

    def end(number: int, frame: FrameType | None) -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, end)
    # Job systems send these to every process of a job; only the conductor answers them.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() == parent_pid:
        try:
            code = subprocess.Popen(command).wait()
            print(f"vllm_child: the server ended with status {code}", flush=True)
        except OSError as err:
            print(f"vllm_child: the server cannot be started: {err}", flush=True)
    end(0, None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
