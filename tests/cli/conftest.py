"""The command in this process and in a process of its own, with a third-party pack on the path and a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "config" / "toy_dist"


class Ended(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """FACTORY_HOME of the test; the toy pack is found here and in child processes."""
    folder = tmp_path / "factory-home"
    monkeypatch.setenv("FACTORY_HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{TOY}")
    monkeypatch.delenv("FACTORY_DEBUG", raising=False)
    monkeypatch.syspath_prepend(str(TOY))
    return folder


@pytest.fixture
def factory(capfd: pytest.CaptureFixture[str]):
    """Call the command in this process: `factory("plan", "-d", "toy")`."""

    def call(*words: str) -> Ended:
        from factory.cli.app import run

        capfd.readouterr()
        code = run(words)
        return Ended(code, *capfd.readouterr())

    return call


@pytest.fixture
def process():
    """Call the command in a process of its own."""

    def call(*words: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "factory.cli.app", *words], capture_output=True, text=True, timeout=300, cwd=ROOT
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return call
