"""Workers forked from a server that has loaded their libraries: the same as workers started by a command, but for the start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from factory.launch.environment import worker_env
from factory.launch.forks import Fork, ForkServer
from factory.launch.local import StopFlag, run_worker

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")

MODULE = """
import json, os, sys, time
from pathlib import Path

LOADED = []

def load_ahead():
    print("loading")
    LOADED.append(os.getpid())
    if os.environ.get("FAILS_TO_LOAD"):
        raise ImportError("no such library")
    time.sleep(float(os.environ.get("LOAD_S", "0")))

def files():
    found = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd") if int(number) > 2]
    return [os.readlink(path) for path in found if os.path.lexists(path)]

def main(job):
    asked = json.loads(job.read_text())
    told = {"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "group": os.getpgid(0), "loaded": LOADED,
            "stdin": sys.stdin.read(), "files": files()}
    job.with_name("told.json").write_text(json.dumps(told))
    print("said", asked.get("say", ""))
    os.write(2, b"written to 2\\n")
    if asked.get("raise"):
        raise ValueError("out of range")
    time.sleep(asked.get("sleep", 0))
    return asked.get("code", 0)
"""
ENDS_S = 30
"""More than any of these workers takes."""


class Bench:
    """A server for MODULE, and jobs for it."""

    def __init__(self, folder: Path, **env: str) -> None:
        (folder / "forked_module.py").write_text(MODULE)
        self.folder, self.jobs = folder, 0
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]), **env}
        self.server = ForkServer("forked_module", env=worker_env(env, threads=1, online=False, num_gpus=0))

    def start(self, *, loads_ahead: bool = False, **asked: object) -> tuple[Fork, Path]:
        self.jobs += 1
        place = self.folder / f"job-{self.jobs}"
        place.mkdir()
        (place / "job.json").write_text(json.dumps(asked))
        return self.server.start(place / "job.json", place / "log.txt", loads_ahead=loads_ahead), place

    def run(self, **asked: object) -> tuple[int, dict, str]:
        """(exit status, what the worker told of itself, its log)."""
        worker, place = self.start(**asked)
        code, told = worker.wait(), place / "told.json"
        return code, json.loads(told.read_text()) if told.exists() else {}, (place / "log.txt").read_text()


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.server.close()


def until(holds, what: str) -> None:
    deadline = time.monotonic() + ENDS_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_fork_is_a_process_of_its_own_with_its_own_session_output_and_nothing_to_read(bench):
    code, told, log = bench.run(say="hello")
    assert code == 0 and told["pid"] == told["session"] == told["group"] and told["stdin"] == "" and told["loaded"] == []
    assert log.splitlines() == ["written to 2", "said hello"] or log.splitlines() == ["said hello", "written to 2"]
    assert not [name for name in told["files"] if name.startswith("pipe:")], "the protocol's pipes are closed to a worker"


def test_what_is_loaded_ahead_is_loaded_once_and_only_when_a_job_needs_it(bench):
    found = [bench.run(loads_ahead=ahead)[1] for ahead in (False, True, True, False)]
    server = found[0]["parent"]
    assert [one["loaded"] for one in found] == [[], [server], [server], [server]]
    assert len({one["pid"] for one in found}) == 4 and {one["parent"] for one in found} == {server}


@pytest.mark.parametrize(("asked", "code"), [({"code": 3}, 3), ({"raise": True}, 1), ({}, 0)])
def test_the_exit_status_is_the_workers(bench, asked, code):
    found, _, log = bench.run(**asked)
    assert found == code and ("ValueError: out of range" in log) == bool(asked.get("raise"))


def test_a_killed_worker_is_reported_by_its_signal_and_the_next_one_starts(bench):
    worker, place = bench.start(sleep=ENDS_S)
    until((place / "told.json").exists, "it runs")
    worker.poll()
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.wait() == -9 and bench.run()[0] == 0


def test_secrets_are_masked_in_the_output(tmp_path):
    bench = Bench(tmp_path, MY_API_KEY="correct-horse-battery")
    _, _, log = bench.run(say="correct-horse-battery", loads_ahead=True)
    bench.server.close()
    assert "said ***" in log and "correct-horse" not in log


def test_a_worker_dies_with_the_server_and_the_next_job_gets_a_new_one(bench):
    worker, place = bench.start(sleep=ENDS_S)
    until((place / "told.json").exists, "it runs")
    told = json.loads((place / "told.json").read_text())
    os.kill(told["parent"], signal.SIGKILL)
    assert worker.wait() == -9
    until(lambda: not psutil.pid_exists(told["pid"]), "the worker is gone too")
    code, after, _ = bench.run()
    assert code == 0 and after["parent"] != told["parent"]


def test_the_kernel_kills_server_and_worker_with_the_conductor(tmp_path):
    conductor = subprocess.Popen([sys.executable, "-c", f"""
import sys; sys.path[:0] = {[str(Path(__file__).parents[2]), str(Path(__file__).parent)]!r}
from pathlib import Path
from test_forks import Bench
Bench(Path({str(tmp_path)!r})).run(sleep=60)
"""])  # fmt: skip
    told = tmp_path / "job-1" / "told.json"
    until(lambda: told.exists() and told.read_text(), "it runs")
    found = json.loads(told.read_text())
    conductor.kill()
    conductor.wait()
    until(lambda: not (psutil.pid_exists(found["pid"]) or psutil.pid_exists(found["parent"])), "both are gone")


def test_a_library_that_cannot_be_loaded_ends_the_job_with_its_traceback_in_the_log(tmp_path):
    bench = Bench(tmp_path, FAILS_TO_LOAD="1")
    assert bench.run()[0] == 0, "a job before it needs no library, and its log may be gone by then"
    code, told, log = bench.run(loads_ahead=True)
    bench.server.close()
    assert code == 1 and told == {} and "ImportError: no such library" in log


@pytest.mark.parametrize("asked", [{"sleep": ENDS_S}, {"loads_ahead": True}])
def test_a_stop_ends_the_worker_also_while_the_server_still_loads(tmp_path, asked):
    bench, stop, polls = Bench(tmp_path, LOAD_S=str(ENDS_S)), StopFlag(), []
    began = time.monotonic()

    def poll() -> None:
        polls.append(1)
        if (tmp_path / "job-1" / ("log.txt" if "loads_ahead" in asked else "told.json")).exists() and len(polls) > 3:
            stop.ask()

    end = run_worker(lambda: bench.start(**asked)[0], on_poll=poll, stop=stop)
    bench.server.close()
    assert end.was_interrupted and end.code in (-15, -9) and time.monotonic() - began < ENDS_S


def test_closing_leaves_no_process(bench):
    _, place = bench.start(sleep=ENDS_S)
    until((place / "told.json").exists, "it runs")
    told = json.loads((place / "told.json").read_text())
    bench.server.close()
    until(lambda: not (psutil.pid_exists(told["pid"]) or psutil.pid_exists(told["parent"])), "both are gone")


def test_what_steps_load_ahead_leaves_one_thread_and_no_gpu_context():
    code = "import os, torch; from factory.stages.ahead import load; load(); print(len(os.listdir('/proc/self/task')), torch.cuda.is_initialized())"
    root = str(Path(__file__).parents[2])
    env = worker_env({**os.environ, "PYTHONPATH": root}, threads=1, online=False, num_gpus=0)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.split()[-2:] == ["1", "False"], done.stderr[-2000:]
