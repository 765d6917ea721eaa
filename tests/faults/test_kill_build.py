"""kill -9 at random moments, of the conductor or of its worker: the same command goes on and ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.plugins import load_stage

ROOT = Path(__file__).parent.parent.parent
KIT = ROOT / "tests" / "pipeline" / "fakekit"
KILLS = 6
TIMED = ("log.txt", "metrics.jsonl", "stage.lock", "resumed")
"""Files that hold times, and the kit's mark of a resume."""


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The fake kit's base folder; the kit counts as installed here and in workers."""
    monkeypatch.syspath_prepend(str(KIT))
    load_stage.cache_clear()
    from fakekit.train import make_base

    yield make_base(tmp_path / "base")
    load_stage.cache_clear()


def start(home: Path, base: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """`factory build` with the fake kit, as a program."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{KIT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fakekit.bench", str(home), str(base), "short", *overrides]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(home: Path, base: Path, *overrides: str) -> None:
    process = start(home, base, *overrides)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told.decode()


def content(home: Path) -> dict[str, bytes]:
    """Everything that the finished steps left, except times."""
    stages = home / "runs" / "run" / "stages"
    files = [path for path in stages.rglob("*") if path.is_file() and path.name not in TIMED]
    return {path.relative_to(stages).as_posix(): path.read_bytes() for path in files}


def metric_steps(home: Path) -> list[int]:
    path = home / "runs" / "run" / "stages" / "02-warm" / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, timeout_s: float = 60.0) -> None:
    """Wait until `condition` holds; a program that ended before is reported with what it said."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            assert process.stderr is not None
            pytest.fail(f"the build ended early with status {process.returncode}:\n{process.stderr.read().decode()}")
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_a_conductor_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, base):
    finish(tmp_path / "calm", base)
    rng, home = random.Random(20), tmp_path / "killed"
    for _ in range(KILLS):
        process = start(home, base)
        time.sleep(rng.uniform(0.3, 2.5))
        process.kill()
        process.wait()
    finish(home, base)
    assert content(home) == content(tmp_path / "calm")
    assert metric_steps(home) == list(range(1, 31))
    assert not list((home / "runs" / "run" / "stages").glob("*.partial"))


def test_training_goes_on_from_its_checkpoint_after_the_conductor_was_killed(tmp_path, base):
    home = tmp_path / "home"
    process = start(home, base)
    checkpoint = home / "runs/run/stages/02-warm.partial/checkpoints/state.json"
    wait_for(checkpoint.is_file, process)
    process.kill()
    process.wait()
    finish(home, base)
    # The kit leaves this mark when it takes up a checkpoint; starting over would give equal bytes too.
    assert (home / "runs/run/stages/resumed").is_file()
    assert metric_steps(home) == list(range(1, 31))


def test_no_worker_outlives_a_killed_conductor(tmp_path, base):
    home = tmp_path / "home"
    process = start(home, base)
    wait_for((home / "runs/run/stages/02-warm.partial/metrics.jsonl").is_file, process)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in workers), timeout_s=5)


def test_a_killed_worker_is_reported_and_the_same_command_goes_on(tmp_path, base):
    finish(tmp_path / "calm", base)
    home = tmp_path / "home"
    process = start(home, base)
    wait_for((home / "runs/run/stages/02-warm.partial/checkpoints/state.json").is_file, process)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 7
    assert b"02-warm: the worker was killed by SIGKILL" in told and b"Run the same command again to resume" in told
    finish(home, base)
    assert content(home) == content(tmp_path / "calm")


def test_sigterm_of_the_conductor_exits_130_and_leaves_no_worker(tmp_path, base):
    home = tmp_path / "home"
    process = start(home, base)
    wait_for((home / "runs/run/stages/02-warm.partial/metrics.jsonl").is_file, process)
    workers = children(process.pid)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Nothing is lost" in told
    assert not any(is_alive(pid) for pid in workers)


def test_a_partial_step_of_other_settings_is_not_resumed(tmp_path, base):
    home, other = tmp_path / "home", "stages.warm.quality=0.3"
    process = start(home, base)
    wait_for((home / "runs/run/stages/02-warm.partial/checkpoints/state.json").is_file, process)
    process.kill()
    process.wait()
    finish(home, base, other)
    finish(tmp_path / "calm", base, other)
    assert not (home / "runs/run/stages/resumed").exists()
    assert content(home) == content(tmp_path / "calm")
