"""A short fuzz of every reader, and every input that was ever found; `make fuzz` runs 100,000 of each."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW = ("medicine_images", "medicine_nifti", "pathology_slide", "timeseries_wfdb")
"""Targets that take 10 to 20 ms an input, or seconds to load their libraries."""


def run(program: str, *arguments: str, limit_s: float) -> str:
    """Run the fuzzer as a program: it forks and limits its own memory."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


def targets() -> list[str]:
    """Names of the targets whose libraries are installed."""
    return run("fuzz.py", "--list", limit_s=300).split()


def test_what_was_found_is_read_or_refused():
    said = run("fuzz.py", "--found", limit_s=900)
    kept = len(list((HERE / "found").glob("*-*")))
    tried = len(re.findall(r": read or refused$", said, re.MULTILINE))
    left_out = re.findall(r"^(\w+): left out", said, re.MULTILINE)
    assert tried == kept - sum(len(list((HERE / "found").glob(f"{name}-*"))) for name in left_out) > 0
    assert ", 0 targets failed" in said


def test_every_reader_meets_some_inputs():
    names = [name for name in targets() if name not in SLOW]
    chosen = [word for name in names for word in ("--target", name)]
    said = run("fuzz.py", "--inputs", "30", "--seed", "7", *chosen, limit_s=900)
    assert re.findall(r"^(\w+) +30 inputs, 0 faults", said, re.MULTILINE) == names


def test_a_target_that_crashes_or_hangs_is_told_and_its_input_kept(tmp_path):
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = sorted(path.name.split("-")[0] for path in (tmp_path / "found").iterdir())
    assert kept == ["ends", "hangs", "hoards", "raises"]
    assert "ends: ended with -6" in done.stdout and "hangs: more than" in done.stdout and "MemoryError" in done.stdout


CRASH = """
import os, sys
from pathlib import Path
import fuzz
from targets import Target
from factory.errors import DataError

def refuses(content, folder):
    raise DataError("no")

def spins(content, folder):
    while True:
        pass

readers = {"ends": lambda *_: os.abort(), "hangs": spins, "hoards": lambda *_: bytes(3 << 30), "raises": lambda *_: [][0], "refuses": refuses}
fuzz.FOUND, fuzz.LIMIT_S = Path(sys.argv[1]) / "found", 0.5
fuzz.FOUND.mkdir()
for name, read in readers.items():
    root = Path(sys.argv[1]) / name
    root.mkdir()
    failed = fuzz.ended({fuzz.start(lambda: fuzz.fuzz(name, Target(read, [b"seed"]), 2, 1, root)): (name, root)})
    assert failed == (name != "refuses"), name
"""


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_coverage_leads_a_target():
    assert "biology_vcf: 300 runs, ended with 0, new: nothing" in run(
        "coverage_guided.py", "--target", "biology_vcf", "--runs", "300", limit_s=300
    )


@pytest.mark.slow
def test_slow_readers_meet_some_inputs():
    names = [name for name in targets() if name in SLOW]
    said = run(
        "fuzz.py", "--inputs", "300", "--seed", "7", *(word for name in names for word in ("--target", name)), limit_s=1800
    )
    assert re.findall(r"^(\w+) +300 inputs, 0 faults", said, re.MULTILINE) == names


@pytest.mark.slow
def test_readers_meet_a_hundred_thousand_inputs_each():
    run("fuzz.py", "--inputs", "100000", limit_s=24 * 3600)
