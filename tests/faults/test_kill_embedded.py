"""A real embedded build, killed at ten random moments, ends with the same weights as one that was left alone."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 10
# With checkpoints every step, so that a kill may fall before, inside and after one; and the README's build as it is.
EVERY_STEP = [f"stages.{stage}.optim.checkpoint_every=1" for stage in ("cpt", "sft", "rl")]
RECIPES = {"embedded-quick": EVERY_STEP, "embedded": []}


def command(recipe: str) -> list[str]:
    settings = [word for setting in RECIPES[recipe] for word in ("--set", setting)]
    return ["build", "--domain", "pathology", "--recipe", recipe, "--run", "killed", "--json", *settings]


def start(home: Path, recipe: str) -> subprocess.Popen:
    environment = {**os.environ, "FACTORY_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = "from factory.cli.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command(recipe)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(home: Path, recipe: str) -> None:
    build = start(home, recipe)
    _, errors = build.communicate(timeout=3600)
    assert build.returncode == 0, errors


def weights(home: Path) -> dict[str, str]:
    """Hash of every weight file of every finished step."""
    found = (home / "runs" / "killed" / "stages").glob("*/model/*.safetensors")
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_build_killed_ten_times_ends_with_the_same_weights(tmp_path, recipe):
    began = time.monotonic()
    finish(tmp_path / "whole", recipe)
    whole_s = time.monotonic() - began
    rng, home = random.Random(7), tmp_path / "killed"
    for _ in range(KILLS):
        build = start(home, recipe)
        # Short waits kill start-up and resume; long ones kill somewhere inside the stages.
        time.sleep(rng.uniform(0.5, whole_s / 4))
        children = psutil.Process(build.pid).children(recursive=True) if build.poll() is None else []
        victim = rng.choice([build.pid, *(child.pid for child in children)])
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it had ended by itself between the look and the kill
        build.communicate(timeout=300)
    finish(home, recipe)
    assert weights(tmp_path / "whole")
    assert weights(home) == weights(tmp_path / "whole")
