"""`factory watch` reads a run that another process writes; `factory report` writes pages; completion installs."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

import runs

from factory.cli.watch import look, sparkline


@pytest.fixture
def building(home):
    """A run whose sft is measured and whose rl is at step 5 of 40, with a torn last line."""
    folder = runs.make_run(home / "runs" / "now", num_samples=20, num_steps=5)
    plan = [
        {"name": name, "kind": name.split("-")[-1], "seconds": 60.0}
        for name in ("01-base-eval", "03-sft-eval", "04-rl", "05-rl-eval")
    ]
    (folder / "plan.json").write_text(json.dumps({"steps": plan}))
    (folder / "run.json").write_text(json.dumps({"status": "running"}))
    (folder / "result.json").unlink()
    rl = folder / "stages" / "04-rl"
    (rl / "stage.lock").unlink()
    rl.rename(folder / "stages" / "04-rl.partial")
    with (folder / "stages" / "04-rl.partial" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "rew')
    import shutil

    shutil.rmtree(folder / "stages" / "05-rl-eval")
    return folder


def test_what_is_seen_of_a_running_build(building):
    seen = look(building)
    assert [step["state"] for step in seen["steps"]] == ["done", "done", "running", "waiting"]
    assert (seen["status"], seen["step"], seen["last"]["step"]) == ("running", "04-rl", 5)
    # Half of the samples are right after sft, and sft-eval took the 36 s that its lock says.
    assert seen["steps"][1]["value"] == 0.5 and seen["steps"][1]["seconds"] == 36.0
    assert seen["curves"]["reward"] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_it_shows_once_when_there_is_no_terminal(factory, building):
    done = factory("watch", "now")
    assert done.code == 0 and "2 of 4 steps" in done.out and "reward  ▁▃" in done.out and "5/5" in done.out
    assert factory("watch", "now", "--json").json["step"] == "04-rl"
    missing = factory("watch", "nov")
    assert missing.code == 8 and "Did you mean 'now'" in missing.err


def test_curves_by_hand():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█" and sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([0, 0, 7, 7], width=2) == "▁█"


def test_reports_of_one_run_and_of_two(factory, home, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        runs.make_run(home / "runs" / name, num_samples=20, seed=seed)
    one = factory("report", "a", "--json")
    assert one.code == 0 and Path(one.json["report"]).is_file()
    two = factory("report", "a", str(home / "runs" / "b"), "--out", str(tmp_path / "c.html"), "--json")
    # The same answers in both: no difference on 20 questions.
    assert two.json["paired"]["b"] == {"diff": 0.0, "diff_ci": [0.0, 0.0], "n": 20, "why": None}
    assert "2 runs side by side" in (tmp_path / "c.html").read_text()
    table = factory("report", "a", "b")
    assert table.code == 0 and (home / "reports").is_dir() and "+0.0" in table.out
    assert factory("report", "none").code == 8


def test_runs_asked_other_questions_are_not_paired(factory, home):
    for name in ("a", "b"):
        runs.make_run(home / "runs" / name, num_samples=20)
    for path in (home / "runs" / "b").glob("stages/*/samples.jsonl"):
        path.write_text(path.read_text().replace("question", "riddle"))
    assert factory("report", "a", "b", "--json").json["paired"]["b"]["why"] == "no question was put to both"


def test_completion_is_installed_for_bash(tmp_path):
    import subprocess

    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(root),
        "SHELL": "/bin/bash",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    code = "from factory.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--install-completion", "bash"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    script = next(path for path in tmp_path.rglob("*") if path.is_file() and "_FACTORY_COMPLETE" in path.read_text())
    assert "complete" in script.read_text() and "factory" in (tmp_path / ".bashrc").read_text()
    asked = {**environment, "_FACTORY_COMPLETE": "complete_bash", "COMP_WORDS": "factory pl", "COMP_CWORD": "1"}
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=asked, capture_output=True, text=True, check=False)
    assert told.stdout.split() == ["plan"], told.stderr
