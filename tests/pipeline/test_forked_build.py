"""A build whose workers are forked leaves the same bytes as one whose workers are started anew."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def built(home: Path, *settings: str) -> dict[str, tuple[str, str | None]]:
    """Step -> hashes of its outputs and of its model."""
    words = ["build", "--domain", "safety", "--recipe", "embedded-quick", "--run", "r", *(w for one in settings for w in ("--set", one))]
    env = {**os.environ, "FACTORY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "from factory.cli.app import main; main()", *words], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    locks = sorted((home / "runs/r/stages").glob("*/stage.lock"))
    found = {lock.parent.name: json.loads(lock.read_text())["outputs"] for lock in locks}
    return {step: (outputs["hash"], outputs.get("model_hash")) for step, outputs in found.items()}


@pytest.mark.parametrize("threads", [1, 2])
def test_forked_or_started_anew_the_outputs_are_the_same(tmp_path, threads):
    forked, anew = (built(tmp_path / fork, f"launch.fork={fork}", f"launch.threads={threads}") for fork in ("true", "false"))
    assert len(forked) == 8 and forked == anew
