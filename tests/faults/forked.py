"""The whole command in processes that are forked, not started: real pids, groups, locks and kills, without loading torch again.

`Build` runs `factory build ...` in a child of this process. Its workers are children of that child: they take the place of
`python -m factory.pipeline.worker`, in a session of their own, with their output in log.txt, and die with their parent.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
LOADED = (
    "accelerate", "factory.cli.build", "factory.pipeline.worker", "factory.report.build", "factory.stages.models.load",
    "factory.stages.rl.assemble", "factory.stages.eval.measure", "factory.stages.cpt.train", "factory.stages.sft.train",
    "peft", "torch._dynamo", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.qwen3.modeling_qwen3", "transformers.generation.utils",
)  # fmt: skip
"""What workers would load one by one, most of it slowly."""
Prepare = Callable[[str, str], None]
"""Called with (`conductor`, "") or (`worker`, its step) in the new process before it begins: sets limits, patches what is to fail."""


def warm_up() -> None:
    """Load what conductor and workers use, once."""
    import torch

    for name in LOADED:
        importlib.import_module(name)
    if importlib.util.find_spec("deepspeed"):
        importlib.import_module("deepspeed")  # accelerate looks into it when a model is saved
    torch.set_num_threads(1)


class Child:
    """A forked process and how it ended."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """Exit status once it has one."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class Worker(Child):
    """What `factory.launch.local` needs of a `Popen`."""

    def __init__(self, command: Sequence[str], *, stdout: Any, env: Mapping[str, str], prepare: Prepare, **_: Any) -> None:
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _become(lambda: _work(command, parent, prepare), env, stdout.fileno())


def _become(act: Callable[[], int], env: Mapping[str, str], out: int) -> None:
    """In a forked child: a session of its own, its own environment and output, then the act and nothing after it."""
    code = 70
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        sys.argv = ["factory"]
        os.environ.clear()
        os.environ.update(env)
        code = act()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _work(command: Sequence[str], parent: int, prepare: Prepare) -> int:
    import logging

    import factory.pipeline.worker as worker
    from factory.launch.guard import die_with_parent

    die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    logging.root.handlers.clear()
    job = Path(command[-1])
    prepare("worker", job.parent.name.removesuffix(".partial"))
    return worker.main(job)


class Build(Child):
    """`factory` with these words, running.

    Args:
        home: FACTORY_HOME.
        said: file that takes stdout and stderr.
        prepare: see `Prepare`; it stays in force in workers, which are forked from the conductor.
    """

    def __init__(self, words: Sequence[str], home: Path, said: Path, prepare: Prepare = lambda *_: None) -> None:
        self.said = said
        with said.open("wb") as output:
            self.pid = os.fork()
            if self.pid == 0:
                env = {**os.environ, **SETTINGS, "FACTORY_HOME": str(home)}
                _become(lambda: _command(words, prepare), env, output.fileno())

    def text(self) -> str:
        """What it printed so far."""
        return self.said.read_text(errors="replace")


def _command(words: Sequence[str], prepare: Prepare) -> int:
    import factory.launch.local as local
    import factory.pipeline.run as conductor
    from factory.cli.app import run

    def fork(command: Sequence[str], **options: Any) -> Any:
        if "factory.pipeline.worker" in command and "torch.distributed.run" not in command:
            return Worker(command, prepare=prepare, **options)
        return subprocess.Popen(command, **options)

    conductor.can_fork = lambda _: False  # here it is `prepare` that forks
    local.subprocess = type(
        "Forking", (), {**vars(subprocess), "Popen": staticmethod(fork)}
    )  # this process ends with the command
    prepare("conductor", "")
    return run(list(words))
