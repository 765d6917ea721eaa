"""A dozen of the injector's scenarios, one of each of the cheap kinds; `make faults` runs hundreds (docs/registry.md)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INJECT = Path(__file__).parent / "inject.py"
CHEAP = ("finished_file_is_damaged", "registry_is_damaged", "kill_at_a_boundary", "disk_refuses", "two_builds_at_once")


def inject(*arguments: str, limit_s: float = 900) -> str:
    """Run the injector as a program (it forks, which a process with pytest's threads must not); its output."""
    done = subprocess.run([sys.executable, str(INJECT), *arguments], capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills and limits as Linux has them")
def test_a_dozen_faults_lose_nothing():
    told = inject("--count", "12", "--seed", "11", "--recipe", "cpt", *(word for kind in CHEAP for word in ("--kind", kind)))
    assert "scenarios                  12 (seed 11" in told
    for figure in (
        "finished stages lost       0",
        "corrupt artifacts accepted 0",
        "wrong exit codes           0",
        "unclear messages           0",
    ):
        assert figure in told, told


@pytest.mark.slow
def test_two_hundred_faults_and_fifty_kill_points():
    inject("--count", "200", "--seed", "1", "--kill-points", "50", limit_s=4 * 3600)
