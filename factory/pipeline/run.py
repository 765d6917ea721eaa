"""Conduct a build: run each step in its own worker, skip what is finished, survive being killed at any moment. No torch here.

result = run_build(make_plan(compose("pathology")))     # the same call again resumes, or does nothing
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import factory.errors
from factory.config.render import provenance_yaml, resolved_yaml
from factory.errors import FactoryError, Interrupted, Preempted, RegistryError, RolledBack, TrainingError
from factory.launch.devices import num_gpus
from factory.launch.environment import worker_env
from factory.launch.forks import ForkServer, can_fork
from factory.launch.launchers import make_launcher
from factory.launch.local import Exit, StopFlag, Worker, caught_signals, run_worker, start_worker
from factory.pipeline.calibration import add_calibration
from factory.pipeline.estimate import busy_s, process_mib, work_s
from factory.pipeline.events import Event, OnEvent, silent
from factory.pipeline.fingerprint import files_identity, settings_of
from factory.pipeline.finish import finish_build, plan_row
from factory.pipeline.folder import ERROR, JOB, OUTPUTS, State
from factory.pipeline.plan import BuildPlan, PlannedStep, training_files
from factory.pipeline.record import end_record, start_record
from factory.pipeline.tail import MetricsTail
from factory.plugins import is_built_in_stage
from factory.registry.files import disk_error, read_json, sha256_json, write_atomic, write_json
from factory.stages.stopping import ask_to_stop, forget, is_asked_to_stop

log = logging.getLogger(__name__)
LOG_TAIL_LINES = 15
FULL_BYTES = 1 << 16
"""A disk with less space than this is full: a worker on it may have failed without being able to say so."""
WORKER = "factory.pipeline.worker"


def run_build(
    plan: BuildPlan, *, on_event: OnEvent = silent, arguments: Sequence[str] = (), register: bool = True
) -> dict[str, Any]:
    """Run every step that is not finished, then choose, compare and register. Returns the content of result.json.

    Args:
        on_event: told of every step as it starts, progresses and ends; see events.py.
        arguments: the command line to record; sys.argv when empty.
        register: put the kept model into the registry; off for a mere measurement.

    Raises:
        RegistryError: another build holds the run, or the disk is too full.
        Interrupted: Ctrl-C or SIGTERM; the same command resumes.
        TrainingError: a worker was killed or ended without saying why.
        FactoryError: whatever a step raised, with its own class.
    """
    return _Conductor(plan, on_event, register).run(arguments)


class _Conductor:
    def __init__(self, plan: BuildPlan, on_event: OnEvent, register: bool) -> None:
        self.is_registered = register
        self.plan, self.folder, self.on_event = plan, plan.folder, on_event
        self.stop = StopFlag()
        self.locks: dict[str, dict[str, Any]] = {}
        launch = plan.config.launch
        self.launcher = make_launcher(launch.launcher)
        self.num_gpus = num_gpus()
        self.env = worker_env(os.environ, threads=launch.threads, online=plan.config.online, num_gpus=self.num_gpus)
        self.forks: ForkServer | None = None

    def run(self, arguments: Sequence[str]) -> dict[str, Any]:
        try:
            return self._run(arguments)
        except OSError as err:
            raise disk_error(err, self.folder.root) from err

    def _run(self, arguments: Sequence[str]) -> dict[str, Any]:
        with self.folder.locked() as self.lock_fd, caught_signals(self.stop), ExitStack() as stack:
            if self.plan.config.launch.fork and can_fork(self.num_gpus):
                self.forks = stack.enter_context(closing(ForkServer(WORKER, env=self.env, held_fds=[self.lock_fd])))
            record = start_record(self.plan, self.env, arguments)
            try:
                result = self._run_all()
            except BaseException as err:
                self._note_end(record, "interrupted" if isinstance(err, Interrupted) else f"failed: {type(err).__name__}")
                raise
            end_record(self.folder, record, "finished")
            self._tell("build-end", values={"result": result})
            return result

    def _note_end(self, record: dict[str, Any], status: str) -> None:
        """`end_record`; a disk that cannot take it must not hide what went wrong before."""
        try:
            end_record(self.folder, record, status)
        except (OSError, RegistryError) as err:
            log.warning("%s: the end of this session is not recorded: %s", self.folder.root, err)

    def _run_all(self) -> dict[str, Any]:
        root = self.folder.root
        write_atomic(root / "resolved.yaml", resolved_yaml(self.plan.composed))
        write_atomic(root / "provenance.yaml", provenance_yaml(self.plan.composed))
        write_json(root / "plan.json", self.plan.to_json())
        self._refuse_full_disk()
        self._tell("build-start", values={"run": self.plan.run, "steps": [step.name for step in self.plan.steps]})
        self._clear_leftovers()
        self._check_overlap()
        for index, step in enumerate(self.plan.steps):
            self._refuse_when_stopped()
            self._step(index, step)
        result = finish_build(self.plan, self.locks, is_registered=self.is_registered)
        self._tell("result", values=result)
        return result

    def _refuse_full_disk(self) -> None:
        free, wanted = shutil.disk_usage(self.folder.root).free, self.plan.disk_bytes
        if free < wanted:
            raise RegistryError(
                f"{self.folder.root}: {free / 2**30:.1f} GiB are free, this build needs about {wanted / 2**30:.1f} GiB. "
                "Free some, or move FACTORY_HOME to a larger disk."
            )

    def _clear_leftovers(self) -> None:
        """Finished steps that the plan no longer has go to `stale/`, where no report looks; partial ones are removed."""
        names = {step.name for step in self.plan.steps}
        for name in self.folder.finished():
            if name not in names:
                self.folder.set_aside(name)
        for half_done in self.folder.stages.glob("*.partial"):
            if half_done.name.removesuffix(".partial") not in names:
                shutil.rmtree(half_done)

    def _step(self, index: int, step: PlannedStep) -> None:
        start = self.locks.get(step.step.start or "", {}).get("outputs", {}).get("model_hash")
        self.folder.put_back(step.name, step.fingerprint)
        read = {stage: self.locks[other]["outputs"]["hash"] for stage, other in step.step.reads.items()}
        state = self._state(step, start, read)
        lock = self.folder.read_lock(step.name) if state.is_cached else None
        place = {"step": step.name, "index": index, "total": len(self.plan.steps)}
        if lock is not None:
            self.locks[step.name] = lock
            self.folder.tidy(step.name)
            self._tell("step-skip", **place, values={"why": state.why, "fingerprint": step.fingerprint})
            return
        self._tell("step-start", **place, values={**plan_row(step), "why": state.why})
        began = time.monotonic()
        job = self._job(step) | {"read": read}
        may_resume = step.step.role == "stage" and self._half_read(step.name) == read
        workdir = self.folder.begin(step.name, job, may_resume=may_resume)
        tail = MetricsTail(workdir / "metrics.jsonl", is_resumed=state.why == "resumes")
        processes = self.plan.config.launch.processes if step.step.role == "stage" else 1
        self._work(step.name, workdir, processes, lambda: self._progress(tail, place), loads_ahead=self._needs_torch(step))
        seconds = time.monotonic() - began
        inputs = {"start": step.step.start, "start_hash": start, "reads": read}
        self.locks[step.name] = self.folder.finish(step.name, step.fingerprint, step.parameters, inputs, seconds)
        if state.why != "resumes":
            self._calibrate(step, self.locks[step.name], processes)
        self._tell(
            "step-end", **place, values={"seconds": seconds, "metrics": self.locks[step.name]["outputs"].get("metrics", {})}
        )

    def _needs_torch(self, step: PlannedStep) -> bool:
        """Whether a step is known to; a base that is only copied does not, and a stage kind of a package may not."""
        return self.plan.base.how == "embedded" if step.step.role == "base" else is_built_in_stage(step.step.kind)

    def _feeds_a_run(self, step: PlannedStep) -> bool:
        """True when a step that will run takes this one's model or reads its files; then every byte of it is checked first."""
        return any(
            not other.is_cached and step.name in (other.step.start, *other.step.reads.values()) for other in self.plan.steps
        )

    def _state(self, step: PlannedStep, start: str | None, read: Mapping[str, str]) -> State:
        """`RunFolder.state`; but what was made, or half made, from other files than those it reads now is not kept."""
        state = self.folder.state(step.name, step.fingerprint, step.parameters, start_hash=start, is_deep=self._feeds_a_run(step))
        if state.is_cached:
            lock = self.folder.read_lock(step.name)
            before = lock["inputs"].get("reads", {}) if lock is not None else {}
        elif state.why == "resumes":
            before = self._half_read(step.name)
        else:
            return state
        return state if before == read else State(False, f"the files it reads are others: {', '.join(read)}")

    def _half_read(self, step: str) -> dict[str, str]:
        """Hashes of what the step that was left half done had read; nothing when there is none."""
        try:
            return read_json(self.folder.partial(step) / JOB).get("read", {})
        except RegistryError:
            return {}

    def _progress(self, tail: MetricsTail, place: dict[str, Any]) -> None:
        for row in tail.new_rows():
            self._tell("progress", **place, values=row)

    def _job(self, step: PlannedStep) -> dict[str, Any]:
        plain, config = self.plan.composed.plain, self.plan.config
        job = {
            "role": step.step.role, "step": step.name, "stage": step.step.stage, "kind": step.step.kind,
            "fingerprint": step.fingerprint,
            "domain": config.domain, "seed": config.seed, "request": self._request(), "build": settings_of(plain, step.step.role),
        }  # fmt: skip
        if step.step.role == "base":
            base = self.plan.base
            return job | {"base": {"how": base.how, "ref": base.ref, "hub_id": base.hub_id, "revision": config.revision,
                                   "folder": str(base.folder) if base.folder else None}}  # fmt: skip
        assert step.step.start is not None
        model = self.folder.final(step.step.start) / self.locks[step.step.start]["outputs"]["model"]
        own = {"kind": step.step.kind} if step.step.role == "eval" else plain["stages"][step.step.stage]
        inputs = {stage: str(self.folder.final(other)) for stage, other in step.step.reads.items()}
        return job | {"model_dir": str(model), "config": own, "inputs": inputs}

    def _request(self) -> dict[str, Any]:
        plain = self.plan.composed.plain
        return {**plain["data"], "options": plain["pack"], "online": plain["online"]}

    def _check_overlap(self) -> None:
        """Compare training and held-out data once for each combination of settings; keep the counts in overlap.json."""
        path, config, plain = self.folder.root / "overlap.json", self.plan.config, self.plan.composed.plain
        files = training_files(config.stages)
        asked = {
            "seed": config.seed, "eval": {key: plain["eval"][key] for key in ("samples", "validation_samples", "seed")},
            "pack": self.plan.pack["hash"], "options": plain["pack"], "data": dict(self.plan.data),
            "files": files_identity(files),
        }  # fmt: skip
        fingerprint = sha256_json(asked)
        if _compared_before(path) == fingerprint:
            return
        job = {"role": "check", "step": "overlap check", "kind": "check", "stage": "check", "fingerprint": fingerprint,
               "domain": config.domain, "seed": config.seed, "request": self._request(),
               "build": {"eval": plain["eval"]}, "files": files}  # fmt: skip
        self._tell("check", values={"what": "train/eval overlap"})
        workdir = self.folder.begin("check", job, may_resume=False)
        self._work("overlap check", workdir, 1, lambda: None, loads_ahead=False)
        write_json(path, {"fingerprint": fingerprint, "compared": read_json(workdir / OUTPUTS)["metrics"], "overlaps": 0})
        shutil.rmtree(workdir)

    def _starter(self, workdir: Path, processes: int, loads_ahead: bool) -> Callable[[], Worker]:
        """How a worker for a job starts: forked where one process of this machine does it, else by the launcher's command."""
        job, log_path = workdir / JOB, workdir / "log.txt"
        if self.forks is not None and processes == 1 and self.plan.config.launch.launcher == "local":
            return partial(self.forks.start, job, log_path, loads_ahead=loads_ahead)
        command = self.launcher(WORKER, [str(job)], processes)
        return partial(start_worker, command, env=self.env, log_path=log_path, held_fds=[self.lock_fd])

    def _work(self, name: str, workdir: Path, processes: int, on_poll: Any, *, loads_ahead: bool) -> None:
        start = self._starter(workdir, processes, loads_ahead)
        forget(workdir)
        asked: list[bool] = []

        def poll() -> None:
            on_poll()
            if self.stop.is_preempted and not asked:
                asked.append(True)
                ask_to_stop(workdir)

        while True:
            end = run_worker(start, on_poll=poll, stop=self.stop)
            if end.code == 0 and (workdir / OUTPUTS).is_file():
                forget(workdir)
                return
            failure = self._failure(name, workdir, end)
            if not isinstance(failure, RolledBack):
                raise failure
            # The worker allows itself `optim.max_rollbacks` of these; a fresh process frees the memory of the failed attempt.
            self._tell("rollback", step=name, values={"why": str(failure)})
            (workdir / ERROR).unlink()

    def _failure(self, name: str, workdir: Path, end: Exit) -> FactoryError:
        is_granted = self.stop.is_preempted and not is_asked_to_stop(workdir)  # a stage that grants the wish takes it away
        if end.was_interrupted or is_granted:
            return self._interrupted(name)
        told = _told_error(name, workdir)
        if told is not None:
            return told
        if shutil.disk_usage(workdir).free < FULL_BYTES:
            return disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), workdir)
        cause = f"was killed by {end.signal_name}" if end.signal_name else f"ended with status {end.code} and no message"
        hint = (
            " The system kills the largest process when memory runs out: see peak memory in `factory plan`."
            if end.code == -9
            else ""
        )
        return TrainingError(
            f"{name}: the worker {cause}.{hint} Run the same command again to resume. "
            f"The log ends ({workdir / 'log.txt'}):\n{log_tail(workdir)}"
        )

    def _interrupted(self, name: str) -> Interrupted:
        if self.stop.is_preempted:
            return Preempted(f"{self.plan.run}: made room in {name}, as SIGUSR1 asked. Run the same command again to resume.")
        return Interrupted(f"{self.plan.run}: stopped in {name}. Nothing is lost: run the same command again to resume.")

    def _refuse_when_stopped(self) -> None:
        if self.stop.count or self.stop.is_preempted:
            raise self._interrupted("between steps")

    def _calibrate(self, step: PlannedStep, lock: Mapping[str, Any], processes: int) -> None:
        device = self.plan.device
        work = work_s(step.plan, self.plan.base.facts, device, processes=processes)
        add_calibration(
            self.plan.home.cache / "calibration.json", device.name, step.costs_like, self.plan.pack["name"], step=(work, busy_s(lock, device)),
            process_mib=process_mib(device, model=step.plan.peak_memory_bytes, usage=lock["usage"]),
        )  # fmt: skip

    def _tell(self, kind: str, *, step: str = "", index: int = 0, total: int = 0, values: dict[str, Any] | None = None) -> None:
        self.on_event(Event(kind, step, index, total, values or {}))


def _told_error(name: str, workdir: Path) -> FactoryError | None:
    """What the worker wrote of its failure; None when it did not come to it."""
    try:
        row = read_json(workdir / ERROR)
        kind, message = getattr(factory.errors, row["type"], None), row["message"]
    except (RegistryError, KeyError, TypeError):
        return None
    known = kind if isinstance(kind, type) and issubclass(kind, FactoryError) else FactoryError
    return known(f"{name}: {message}")


def _compared_before(path: Path) -> str | None:
    """Fingerprint of the comparison that overlap.json holds; None when there is none or it is damaged, and then it is made again."""
    try:
        held = read_json(path)
    except RegistryError:
        return None
    return held.get("fingerprint") if isinstance(held, dict) else None


def log_tail(workdir: Path) -> str:
    """The last lines of a step's log, indented."""
    path = workdir / "log.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"
