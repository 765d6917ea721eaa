"""A build whose workers are forked leaves the same bytes as one whose workers are started anew, whoever of them is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def start(home: Path, *settings: str) -> subprocess.Popen[str]:
    """A build of eight short steps."""
    words = [
        "build",
        "--domain",
        "safety",
        "--recipe",
        "embedded-quick",
        "--run",
        "r",
        *(w for one in settings for w in ("--set", one)),
    ]
    env = {**os.environ, "FACTORY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from factory.cli.app import main; main()", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(home: Path, *settings: str) -> dict[str, tuple[str, str | None]]:
    """Build to the end; step -> hashes of its outputs and of its model."""
    build = start(home, *settings)
    assert build.wait(600) == 0, build.stderr.read()[-3000:]
    locks = sorted((home / "runs/r/stages").glob("*/stage.lock"))
    found = {lock.parent.name: json.loads(lock.read_text())["outputs"] for lock in locks}
    return {step: (outputs["hash"], outputs.get("model_hash")) for step, outputs in found.items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, tuple[str, str | None]]:
    """Of a build that was left alone."""
    return finished(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize(("victim", "code"), [("conductor", -9), ("server", 7), ("worker", 7)])
def test_whoever_is_killed_nothing_stays_behind_and_the_same_command_goes_on(reference, tmp_path, victim, code):
    build = start(tmp_path)
    while not any(path.stat().st_size for path in tmp_path.glob("runs/r/stages/02-cpt.partial/metrics.jsonl")):
        assert build.poll() is None, build.stderr.read()[-3000:]
        time.sleep(0.01)
    conductor = psutil.Process(build.pid)
    server = next(one for one in conductor.children() if "factory.launch.forks" in one.cmdline())
    worker = next(one for one in server.children() if "factory.launch.forks" in one.cmdline())
    everyone = [conductor, *conductor.children(recursive=True)]
    {"conductor": conductor, "server": server, "worker": worker}[victim].kill()
    assert build.wait(60) == code
    said = build.stderr.read()
    assert victim == "conductor" or ("was killed by SIGKILL" in said and "Run the same command again" in said), said[-3000:]
    assert psutil.wait_procs(everyone, timeout=30)[1] == []
    assert finished(tmp_path) == reference


@pytest.mark.parametrize("threads", [1, 2])
def test_forked_or_started_anew_the_outputs_are_the_same(tmp_path, threads):
    forked, anew = (finished(tmp_path / fork, f"launch.fork={fork}", f"launch.threads={threads}") for fork in ("true", "false"))
    assert len(forked) == 8 and forked == anew
