"""Packages laid out as pip leaves them: a module with its files, and a dist-info with entry points."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from factory.plugins import load_stage

ROOT = Path(__file__).parents[2]
ARITH = ROOT / "tests" / "packs" / "broken" / "arith_pack"


class Site:
    """A folder of installed packages, first on the path here and in child processes."""

    def __init__(self, folder):
        self.folder = folder

    def add(self, distribution, points, modules=None, version="1.0"):
        """Install a distribution: {group: {name: target}} and {file: text}."""
        for file, text in (modules or {}).items():
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in own.items()) for group, own in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()

    def add_arith(self, name):
        """Install a copy of the sound pack under this name."""
        shutil.copytree(ARITH, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pack.yaml", "__init__.py"):
            path = self.folder / name / file
            path.write_text(path.read_text().replace("arith_pack", name))
        self.add(name, {"factory.domain_packs": {name: f"{name}:PACK"}})


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FACTORY_PACKS", raising=False)
    before = set(sys.modules)
    load_stage.cache_clear()
    yield Site(folder)
    load_stage.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def run_factory(*words, cwd=ROOT, timeout=900, env=None):
    """One command line of the factory in its own process."""
    command = [sys.executable, "-m", "factory.cli.app", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=env)


@pytest.fixture
def factory(site):
    """Run a command line; the site's packages are installed."""
    return run_factory


@pytest.fixture
def fresh(tmp_path):
    """A fresh environment: its own site-packages and `factory` and `pip` commands. Other packages are borrowed from this Python.

    Returns the variables of a shell in it. pip works without a network: the build tools are the borrowed ones.
    """
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    packages = next((home / "lib").glob("python*")) / "site-packages"
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("\n".join([str(ROOT), *here]) + "\n")
    for name, code in (
        ("factory", "from factory.cli.app import main; main()"),
        ("pip", "from pip._internal.cli.main import main; import sys; sys.exit(main())"),
    ):
        script = home / "bin" / name
        script.write_text(f"#!/bin/sh\nexec '{home}/bin/python' -c '{code}' \"$@\"\n")
        script.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "FACTORY_PACKS", "PYTHONHOME")}
    return kept | {
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(home), "FACTORY_HOME": str(tmp_path / "home"),
        "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
