"""Which command starts the processes of a worker: `launch.launcher` names who writes it.

`local` is plain Python for one process and torchrun for more; `nodes` spreads the processes over the machines of a job (nodes.py). Installed packages add launchers with the entry point group
`factory.launchers`; the target is a function of the type `Launcher`. The command must run until its last rank has ended, pass
SIGTERM on to them, end with another status than 0 when one fails, and give the ranks torchrun's variables (RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from factory.launch.local import worker_command
from factory.launch.nodes import nodes_command
from factory.plugins import LAUNCHER_GROUP, find_plugin, load_plugin

Launcher = Callable[[str, Sequence[str], int], Sequence[str]]
"""(module to run with `-m`, its arguments, number of processes) -> command line."""
BUILT_IN: dict[str, Launcher] = {"local": worker_command, "nodes": nodes_command}


def check_launcher(name: str) -> None:
    """Raises UnknownPlugin or DuplicatePlugin unless there is one launcher of that name. Nothing is imported."""
    if name not in BUILT_IN:
        find_plugin(LAUNCHER_GROUP, name, built_in=tuple(BUILT_IN))


def make_launcher(name: str) -> Launcher:
    """The launcher of that name; a package cannot replace a built-in one.

    Raises:
        UnknownPlugin, DuplicatePlugin, BrokenPlugin.
    """
    return BUILT_IN[name] if name in BUILT_IN else load_plugin(LAUNCHER_GROUP, name, built_in=tuple(BUILT_IN))
