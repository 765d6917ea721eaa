"""A short fuzz of every reader, and every input that was ever found; `make fuzz` runs 100,000 of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def fuzz(*arguments: str, limit_s: float) -> str:
    """Run the fuzzer as a program: it forks and limits its own memory."""
    done = subprocess.run([sys.executable, str(HERE / "fuzz.py"), *arguments], capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_found_is_read_or_refused():
    assert "were found before, 0 faults" in fuzz("--found", limit_s=300)


def test_readers_meet_sixty_inputs_each():
    assert fuzz("--inputs", "60", "--seed", "7", limit_s=300).count(" 60 inputs, 0 faults") == 11


@pytest.mark.slow
def test_readers_meet_a_hundred_thousand_inputs_each():
    fuzz("--inputs", "100000", limit_s=8 * 3600)
