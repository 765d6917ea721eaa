"""The layout that the package promises: links, one import name, a wheel that holds only `factory`, import rules."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("domains", "stages", "templates", "registry")


@pytest.mark.parametrize("name", LINKED)
def test_top_level_folder_is_linked_into_the_package(name):
    link = ROOT / "factory" / name
    assert link.is_symlink(), (
        f"factory/{name} is not a link; in a checkout without symlinks run: git config core.symlinks true && git checkout -- factory"
    )
    assert os.readlink(link) == f"../{name}"


@pytest.mark.parametrize("name", ["domains", "stages", "registry"])
def test_a_second_import_name_is_refused(name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"import 'factory.{name}'" in done.stderr


def test_import_rules_hold():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr


LIGHT = ["factory.cli.app", "factory.pipeline.plan", "factory.config.compose", "factory.rewards.mixture", "factory.domains.pathology",
         "factory.stages.cpt", "factory.stages.sft", "factory.stages.rl", "factory.stages.eval", "factory.report", "factory.stages.select", "factory.stages.preference",
         "factory.stages.reward_model", "factory.stages.merge", "factory.stages.rl.presets"]  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_module_loads_without_torch(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'datasets', 'monai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_constraints_hold_no_address_and_pin_torch():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    assert "torch==2.13.0" in lines
