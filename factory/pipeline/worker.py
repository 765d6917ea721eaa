"""One job in its own process: `python -m factory.pipeline.worker JOB.json`, directly or under torchrun.

Roles: `check` (train/eval overlap), `base`, `stage`, `eval`. The worker writes only beside its job file: what the stage leaves,
`outputs.json` when it is done, `error.json` when it failed in a way the user should read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import OmegaConf

from factory.contracts import DataRequest, Outputs, RunContext
from factory.errors import FactoryError, Interrupted, RewardError, TrainingError, is_out_of_memory
from factory.launch.guard import die_with_parent
from factory.pipeline.base_step import materialise
from factory.pipeline.folder import ERROR, OUTPUTS, USAGE
from factory.pipeline.overlap import check_overlap
from factory.plugins import load_pack, load_stage
from factory.redaction import RedactedStream, redact
from factory.registry.files import disk_error, disk_fault, read_json, write_json
from factory.stages.metrics import FILE_NAME, append_metrics

BUG_EXIT = 70
"""Exit status for an exception that is not the user's (sysexits.h EX_SOFTWARE)."""


def config_from_plain(config_type: type, plain: Mapping[str, Any]) -> Any:
    """A stage's config dataclass from plain data, checked against its schema (enums, nested sections)."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config_type), dict(plain)))


def request_from_plain(row: Mapping[str, Any], workdir: Path) -> DataRequest:
    """The data settings of a build as a pack takes them; bad rows go to `workdir/quarantine`."""
    return DataRequest(
        paths=tuple(row["paths"]), on_bad_row=row["on_bad_row"], max_bad_fraction=row["max_bad_fraction"],
        quarantine_dir=str(workdir / "quarantine"), options=row["options"], online=row["online"],
    )  # fmt: skip


def run_job(job: Mapping[str, Any], workdir: Path, rank: int) -> Outputs:
    """Do the job. Raises what the stage raises."""
    pack = load_pack(job["domain"])
    request = request_from_plain(job["request"], workdir)
    if job["role"] == "check":
        files = [Path(path).expanduser() for path in job.get("files", ())]
        counts = check_overlap(pack, request, seed=job["seed"], eval_settings=job["build"]["eval"], files=files)
        return Outputs(metrics=counts)
    if job["role"] == "base":
        return materialise(job, pack, request, workdir)
    stage = load_stage(job["kind"])
    ctx = RunContext(
        stage=job["stage"], workdir=workdir, model_dir=Path(job["model_dir"]), pack=pack, domain=job["domain"], seed=job["seed"],
        request=request, build=job["build"], log=_logger(workdir, rank),
        inputs={stage: Path(folder) for stage, folder in job.get("inputs", {}).items()},
    )  # fmt: skip
    return stage.run(config_from_plain(stage.config_type, job["config"]), ctx)


def usage() -> dict[str, float]:
    """What this process took so far: `cpu_s`, `peak_bytes` of main memory (Linux), `peak_device_bytes` of a GPU. For the estimates."""
    found = {"cpu_s": round(time.process_time(), 3)}
    status = Path("/proc/self/status")
    # VmHWM counts this program alone; getrusage's figure would start with the parent's.
    peak = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"), re.MULTILINE) if status.is_file() else None
    if peak is not None:
        found["peak_bytes"] = int(peak[1]) * 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return found


def _logger(workdir: Path, rank: int) -> Callable[..., None]:
    if rank != 0:
        return lambda **_: None
    return lambda **row: append_metrics(workdir / FILE_NAME, row)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"stopped by {signal.Signals(number).name}; the same command resumes")


def _write_error(workdir: Path, error: FactoryError) -> None:
    """The first rank to fail tells why; what its peers see afterwards is only the consequence."""
    row = {"type": type(error).__name__, "message": redact(str(error)), "exit_code": error.exit_code}
    try:
        handle = os.open(workdir / ERROR, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(row, file)
    except FileExistsError:
        return
    except OSError as err:
        logging.getLogger(__name__).error("%s: cannot be written: %s", workdir / ERROR, err)


def _bug(job: Mapping[str, Any], err: Exception) -> TrainingError:
    told = f"{job['step']} ({job['kind']}) raised {type(err).__name__}: {err}. The traceback is in log.txt."
    if is_out_of_memory(err):
        told += (
            " The memory ran out: lower optim.micro_batch_size or eval.batch_size, or set optim.gradient_checkpointing=true "
            "(`factory plan` tells the peak memory)."
        )
    return TrainingError(f"{told} The same command goes on from the last checkpoint.")


def log_to_stderr(rank: int, world_size: int) -> None:
    """One log of all processes: the first tells what happens, the others only warn, and of several each line names its own."""
    whose = f" rank {rank}" if world_size > 1 else ""
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s{whose} %(name)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )


def load_ahead() -> None:
    """Load what the steps of a build import, for workers that are forked (factory.launch.forks)."""
    from factory.stages.ahead import load

    load()


def main(job_path: Path) -> int:
    """Run one job file; return the exit status."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGTERM, _stop)
    workdir, rank = job_path.parent.absolute(), int(os.environ.get("RANK", "0"))
    log_to_stderr(rank, int(os.environ.get("WORLD_SIZE", "1")))
    job = read_json(job_path)
    started = time.monotonic()
    try:
        outputs = run_job(job, workdir, rank)
        if rank == 0:
            write_json(workdir / USAGE, usage())
            write_json(workdir / OUTPUTS, asdict(outputs))
    except Interrupted as err:
        logging.getLogger(__name__).warning("%s", err)
        return err.exit_code
    except FactoryError as err:
        traceback.print_exc()
        # The verifier pool lives on the same disk.
        fault = disk_fault(err) if isinstance(err, RewardError) else None
        told = disk_error(fault, workdir) if fault else err
        _write_error(workdir, told)
        return told.exit_code
    except Exception as err:
        traceback.print_exc()
        fault = disk_fault(err)
        told = disk_error(fault, workdir) if fault else _bug(job, err)
        _write_error(workdir, told)
        return told.exit_code if fault else BUG_EXIT
    logging.getLogger(__name__).info("%s done in %.1f s", job["step"], time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.stdout, sys.stderr = RedactedStream(sys.stdout), RedactedStream(sys.stderr)  # type: ignore[assignment]
    sys.exit(main(Path(sys.argv[1])))
