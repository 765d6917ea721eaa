"""The conductor with its workers' jobs done in this process, one after another: the same code without a start of Python for each."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from unittest import mock

import factory.pipeline.run as conductor
from factory.errors import FactoryError
from factory.launch.local import Exit
from factory.pipeline.folder import OUTPUTS
from factory.pipeline.worker import _write_error, run_job
from factory.registry.files import read_json, write_json


def work(start: Any, *, on_poll: Callable[[], None], **_: Any) -> Exit:
    """What `python -m factory.pipeline.worker JOB` does, without its signals and its log."""
    job_path, log_path = start.args
    workdir = job_path.parent.absolute()
    log_path.touch()
    try:
        write_json(workdir / OUTPUTS, asdict(run_job(read_json(job_path), workdir, 0)))
    except FactoryError as err:
        traceback.print_exc()
        _write_error(workdir, err)
        return Exit(err.exit_code, False)
    on_poll()
    return Exit(0, False)


@contextmanager
def in_process() -> Iterator[None]:
    """Builds inside this block start no worker processes (the pool of verifiers does, as always)."""
    environment = {name: "1" for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
    with (
        mock.patch.dict(os.environ, environment), mock.patch.object(conductor, "run_worker", work),
        mock.patch.object(conductor, "can_fork", lambda _: True),
    ):  # fmt: skip
        yield
