"""The example distribution of docs/bridges.md, laid out as installed: the command of the page, over 1,000 tasks, to the report."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from factory.rewards.mixture import Mixture
from factory.rewards.task_stats import TaskTable

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "factory-pack-thousand"
SHARED = ROOT.parent / "shared" / "data" / "general" / "internbootcamp"
NO_DATA = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the repository")
NO_GYM = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed (extra `bridges`)"
)
# What a quick run leaves of the recipe: every stage and step is there, with fewer items.
SMALL = (
    "stages.sft.lessons=64", "stages.rl.num_steps=4", "stages.rl.samples=1200", "stages.rl.prompts_per_step=8", "stages.rl.group_size=2",
    "stages.rl.max_new_tokens=8", "eval.samples=24", "eval.validation_samples=12", "eval.max_new_tokens=8", "pool.workers=1",
)  # fmt: skip


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example's packages with the entry points of its pyproject.toml, as pip would leave them, first on the path."""
    site = tmp_path / "site"
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["factory.domain_packs"]
    for target in points.values():
        module = target.partition(":")[0]
        shutil.copytree(EXAMPLE / module, site / module, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("[factory.domain_packs]\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(site))
    return tmp_path / "home"


def factory(*words, timeout=900):
    return subprocess.run(
        [sys.executable, "-m", "factory.cli.app", *words], capture_output=True, text=True, timeout=timeout, cwd=ROOT
    )


@pytest.mark.parametrize(
    "name, verifiers", [("puzzles", {"bootcamp"}), pytest.param("thousand", {"bootcamp", "reasoning_gym"}, marks=NO_GYM)]
)
def test_the_packs_have_over_a_thousand_tasks_and_route_each(installed, name, verifiers):
    from factory.plugins import find_pack, load_pack

    assert find_pack(name).origin == "factory-pack-thousand 1.0.0", "found as any installed pack is"
    pack = load_pack(name)
    tasks = [task for bridge in pack.bridges for task in bridge.tasks()]
    assert len(set(tasks)) == len(tasks) > 1000
    mixture = Mixture(pack.manifest.tasks)
    assert {verifier for task in tasks for verifier in mixture.verifiers_for(task)} == verifiers
    for name in ("thousand", "puzzles"):
        sys.modules.pop(f"factory_pack_{name}", None)


def test_the_pack_without_other_libraries_passes_the_conformance_kit(installed):
    done = factory("domains", "check", "puzzles")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@NO_DATA
@pytest.mark.parametrize("name", ["puzzles", pytest.param("thousand", marks=NO_GYM)])
def test_the_mixture_is_built_and_reported(installed, name):
    settings = [word for setting in SMALL for word in ("--set", setting)]
    done = factory("build", "--domain", name, "--data", str(SHARED), *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (installed / "runs").iterdir()
    table = TaskTable.read(next(run.glob("stages/*-rl/tasks.jsonl")))
    totals = table.totals()
    assert len(table.steps) == 4 and len(totals) >= 16
    assert not sum(count.masked for count in totals.values()), "no verifier failed"
    kinds = {task.partition("/")[0] for task in totals}
    assert kinds == ({"bootcamp"} if name == "puzzles" else {"bootcamp", "gym"})
    page = (run / "report.html").read_text()
    assert f"Tasks of rl: {len(totals)} drawn" in page and page.count("<figcaption>") == min(24, len(totals))
    # Every stage was measured on the same held-out items, whatever process drew them.
    rows = json.loads((run / "result.json").read_text())["rows"]
    assert [row["diff_n"] for row in rows] == [None, 24, 24]
    figures = json.loads(next(run.glob("stages/*-rl-eval/eval.json")).read_text())
    judged = figures["splits"]["test"]["statuses"]
    assert sum(judged.values()) == 24 and not judged.get("error") and not judged.get("timeout")
