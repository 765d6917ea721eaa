"""A plan is pure and light, and its fingerprints follow everything that could change an output, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.errors import ConfigError, DataError
from factory.pipeline.calibration import LOAD_S
from factory.pipeline.fingerprint import changed_parts, files_identity, named_paths
from factory.pipeline.plan import make_plan, run_name
from factory.registry.home import Home

LIGHT = """
import sys, socket
def refuse(*a, **k): raise RuntimeError("plan used the network")
socket.socket.connect = refuse
from pathlib import Path
from fakekit.bench import planned
plan = planned(Path(sys.argv[1]), Path(sys.argv[2]))
loaded = {name.split(".")[0] for name in sys.modules}
heavy = sorted(loaded & {"torch", "transformers", "peft", "accelerate", "datasets", "huggingface_hub"})
assert not heavy, heavy
assert len(plan.steps) == 8
"""


def fingerprints(tmp_path: Path, base: Path, *overrides: str) -> dict[str, str]:
    from fakekit.bench import planned

    return {step.name: step.fingerprint for step in planned(tmp_path / "home", base, *overrides).steps}


def test_plan_imports_nothing_heavy_uses_no_network_and_writes_nothing(tmp_path, base):
    root = Path(__file__).parent.parent.parent
    env = {**os.environ, "PYTHONPATH": f"{root}:{os.environ['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(tmp_path / "home"), str(base)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "changed", ["num_steps=5", "quality=0.41", "delay_s=0.001", "control=true", "adapter.rank=8", "fail=bug"]
)
def test_a_stage_setting_changes_the_stage_and_what_follows_it(tmp_path, base, changed):
    before, after = fingerprints(tmp_path, base), fingerprints(tmp_path, base, f"stages.tune.{changed}")
    assert {name for name in before if before[name] != after[name]} == {"06-tune", "07-tune-eval"}


@pytest.mark.parametrize(
    "changed", ["seed=1", "precision=bf16", "pack.leak=true", "mixture.say.exact=0.5", "pool.timeout_s=3", "launch.threads=2"]
)
def test_a_build_setting_changes_every_stage(tmp_path, base, changed):
    before, after = fingerprints(tmp_path, base), fingerprints(tmp_path, base, changed)
    assert {name for name in before if before[name] == after[name]} == {"00-base"}


def test_eval_settings_never_train_again(tmp_path, base):
    for changed in (
        "samples=61",
        "validation_samples=41",
        "batch_size=3",
        "max_new_tokens=9",
        "blind=false",
        "probes=false",
        "seed=7",
    ):
        before, after = fingerprints(tmp_path, base), fingerprints(tmp_path, base, f"eval.{changed}")
        assert {name for name in before if before[name] != after[name]} == {name for name in before if name.endswith("-eval")}


@pytest.mark.parametrize("changed", ["eval.bootstrap=201", "pool.workers=2"])
def test_what_no_output_depends_on_changes_no_fingerprint(tmp_path, base, changed):
    assert fingerprints(tmp_path, base) == fingerprints(tmp_path, base, changed)


def test_other_weights_or_data_or_pack_files_change_the_fingerprint(tmp_path, base, monkeypatch):
    before = fingerprints(tmp_path, base)
    (base / "model.safetensors").write_text("other weights")
    assert set(before.items()).isdisjoint(fingerprints(tmp_path, base).items())
    (base / "model.safetensors").write_text("weights")
    assert fingerprints(tmp_path, base) == before
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    with_data = fingerprints(tmp_path, base, f"data.paths=[{rows}]")
    assert before["02-warm"] != with_data["02-warm"]
    rows.write_text("{ }\n")
    assert with_data["02-warm"] != fingerprints(tmp_path, base, f"data.paths=[{rows}]")["02-warm"]
    monkeypatch.setattr("factory.pipeline.plan.library_versions", lambda: {"torch": "9"})
    assert before["02-warm"] != fingerprints(tmp_path, base)["02-warm"]
    monkeypatch.undo()


def test_files_named_by_a_stage_are_found_at_any_depth():
    config = {"general_paths": ["a", "b"], "path": "c", "empty_path": None, "pathology": "no", "deep": {"x_path": "d"}}
    assert named_paths(config) == ["a", "b", "c", "d"]


def test_a_file_that_a_stage_names_counts_by_its_content(tmp_path, base):
    notes = tmp_path / "notes.txt"
    notes.write_text("one")
    before = fingerprints(tmp_path, base, f"stages.tune.notes_path={notes}")
    assert before == fingerprints(tmp_path, base, f"stages.tune.notes_path={notes}")
    notes.write_text("two")
    after = fingerprints(tmp_path, base, f"stages.tune.notes_path={notes}")
    assert {name for name in before if before[name] != after[name]} == {"06-tune", "07-tune-eval"}


def test_source_of_the_stage_kind_counts(tmp_path, base, monkeypatch):
    before = fingerprints(tmp_path, base)
    monkeypatch.setattr("factory.pipeline.plan.stage_source", lambda stage: f"edited {stage.kind}")
    assert fingerprints(tmp_path, base)["02-warm"] != before["02-warm"]


def test_where_the_data_lies_above_the_hash_limit_counts_by_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr("factory.pipeline.fingerprint.HASHED_BYTES", 10)
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "large").write_bytes(b"1234567890")
    found = files_identity([tmp_path])
    assert found[str(tmp_path / "small")].startswith("sha256:")
    assert found[str(tmp_path / "large")].startswith("size+mtime:10:")


def test_missing_data_is_refused():
    with pytest.raises(DataError, match=r"no such file or folder\. Check data.paths"):
        files_identity(["nowhere.jsonl"])


def test_same_command_same_run_and_another_setting_another_run(base):
    from fakekit.bench import composed

    first = run_name(composed(base))
    assert first == run_name(composed(base))
    assert first.startswith("fakekit-embedded-s0-")
    assert first != run_name(composed(base, "seed=1"))
    assert first != run_name(composed(base, "stages.tune.quality=0.71"))


def test_unusable_names_and_bases_are_refused(tmp_path, base):
    from fakekit.bench import composed

    with pytest.raises(ConfigError, match="cannot name a folder"):
        make_plan(composed(base), home=Home(tmp_path), run="../up")
    with pytest.raises(ConfigError, match=r"is no folder and no known base\. Did you mean 'qwen3-8b'"):
        make_plan(composed(Path("qwen3-8")), home=Home(tmp_path))
    with pytest.raises(ConfigError, match=r"the network is off\. Add --online"):
        make_plan(composed(Path("someone/some-model")), home=Home(tmp_path))


def test_plan_tells_cost_and_what_it_would_write(tmp_path, base):
    from fakekit.bench import planned

    plan = planned(tmp_path / "home", base)
    assert all(not step.is_cached and step.why == "not run yet" for step in plan.steps)
    assert plan.seconds == pytest.approx(LOAD_S + sum(step.seconds for step in plan.steps))
    assert str(tmp_path / "home/runs/run/stages/02-warm") in plan.writes()
    row = plan.to_json()["steps"][2]
    assert (row["name"], row["kind"], row["num_steps"], row["start"]) == ("02-warm", "fake-train", 6, "00-base")
    assert row["disk_bytes"] > 0 and "FLOP/s" in row["seconds_formula"]


def test_changed_parts_names_the_keys():
    assert changed_parts({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"x": 1, "y": 3}, "c": 1}) == ["a.y", "b", "c"]
