"""Whole builds with the fake kit: skip, re-run, errors, lock, result."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from factory.errors import DataError, Interrupted, Preempted, RegistryError, TrainingError
from factory.pipeline.folder import RunFolder
from factory.registry.home import Home
from factory.registry.models import Registry

SHORT = ("stages.warm.num_steps=4", "stages.warm.delay_s=0")


@pytest.fixture
def run(tmp_path, base):
    """Build in tmp_path/home; returns (events as `kind step`, result)."""
    from fakekit.bench import build

    def _run(*overrides: str, recipe: str = "short"):
        seen = []
        result = build(tmp_path / "home", base, *overrides, recipe=recipe, on_event=lambda e: seen.append(f"{e.kind} {e.step}"))
        return [line for line in seen if line.startswith(("step-start", "step-skip", "check"))], result

    return _run


def ran(events: list[str]) -> list[str]:
    return [line.split(" ")[1] for line in events if line.startswith("step-start")]


def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "runs" / "run"


def test_a_build_keeps_the_best_stage_that_is_no_control_and_registers_it(tmp_path, run):
    _, result = run(recipe="embedded")
    assert result["chosen"] == "tune"
    rows = {row["stage"]: row for row in result["rows"]}
    assert rows["probe"]["validation"] > rows["tune"]["validation"] and rows["probe"]["control"]
    assert (rows["tune"]["against"], rows["probe"]["against"], rows["base"]["against"]) == ("warm", "base", None)
    # The kit scores 1 where crc32(id) % 1000 < 1000 * quality, so the difference is a plain difference of means.
    assert rows["tune"]["diff"] == pytest.approx(rows["tune"]["value"] - rows["warm"]["value"])
    assert rows["tune"]["diff_ci"][0] <= rows["tune"]["diff"] <= rows["tune"]["diff_ci"][1]
    record = Registry(Home(tmp_path / "home").registry).show("run")
    assert (record.id, record.stage, record.id) == ("run-v1", "tune", result["model"]["id"])
    assert [step.name for step in record.lineage][:3] == ["00-base", "01-base-eval", "02-warm"]
    assert Registry(Home(tmp_path / "home").registry).verify() == []
    weights = folder(tmp_path) / result["model"]["path"] / "model.safetensors"
    stored = Registry(Home(tmp_path / "home").registry).model_path("run") / "model.safetensors"
    assert weights.read_bytes() == stored.read_bytes()


def test_files_of_a_run(tmp_path, run):
    run(*SHORT)
    names = {path.name for path in folder(tmp_path).iterdir()}
    wanted = {
        "resolved.yaml",
        "provenance.yaml",
        "plan.json",
        "run.json",
        "result.json",
        "metrics.jsonl",
        "overlap.json",
        "stages",
    }
    assert wanted <= names
    record = json.loads((folder(tmp_path) / "run.json").read_text())
    assert record["status"] == "finished" and record["ended"] and record["environment"]["OMP_NUM_THREADS"] == "1"
    assert record["environment"]["HF_HUB_OFFLINE"] == "1"
    assert os.uname().nodename not in json.dumps(record["platform"])
    assert json.loads((folder(tmp_path) / "overlap.json").read_text())["compared"]["test"] == 20
    lock = json.loads((folder(tmp_path) / "stages/02-warm/stage.lock").read_text())
    assert lock["inputs"]["start"] == "00-base" and set(lock["outputs"]["files"]) >= {
        "model/model.safetensors",
        "model/quality.json",
    }
    assert not (folder(tmp_path) / "stages/02-warm/checkpoints").exists()


def test_a_finished_build_runs_nothing_again(run):
    first, one = run(*SHORT)
    again, two = run(*SHORT)
    assert len(ran(first)) == 4 and ran(again) == []
    assert "check " in first and "check " not in again
    assert one == two


def test_a_changed_setting_runs_only_what_depends_on_it_and_comes_back_for_free(run):
    run(*SHORT)
    other, _ = run(*SHORT, "stages.warm.quality=0.3")
    assert ran(other) == ["02-warm", "03-warm-eval"]
    back, _ = run(*SHORT)
    assert ran(back) == []


def test_a_step_that_left_the_recipe_leaves_the_report(tmp_path, run):
    run(*SHORT, "stages.more={kind: fake-train, num_steps: 1}")
    run(*SHORT)
    assert sorted(path.name for path in (folder(tmp_path) / "stages").glob("0*")) == [
        "00-base",
        "01-base-eval",
        "02-warm",
        "03-warm-eval",
    ]


@pytest.mark.parametrize("damage", ["edit", "delete", "lock"])
def test_a_damaged_step_runs_again(tmp_path, run, damage):
    run(*SHORT)
    weights = folder(tmp_path) / "stages/02-warm/model/model.safetensors"
    good = weights.read_bytes()
    if damage == "lock":
        (folder(tmp_path) / "stages/02-warm/stage.lock").write_text("{")
    else:
        weights.chmod(0o644)
        weights.unlink()
        if damage == "edit":
            weights.write_bytes(good[:-1] + b"!")
    events, _ = run(*SHORT)
    assert ran(events) == ["02-warm"]
    assert weights.read_bytes() == good


def test_a_byte_flipped_without_a_trace_is_found_before_the_model_is_used(tmp_path, run):
    run(*SHORT)
    weights = folder(tmp_path) / "stages/02-warm/model/model.safetensors"
    stat, good = weights.stat(), weights.read_bytes()
    weights.unlink()
    weights.write_bytes(b"!" + good[1:])
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    events, _ = run(*SHORT, "stages.more={kind: fake-train, num_steps: 1}")
    assert ran(events) == ["02-warm", "04-more", "05-more-eval"]
    assert weights.read_bytes() == good


def test_overlap_is_refused_before_anything_is_trained(tmp_path, run):
    with pytest.raises(DataError, match=r"overlap check: .*training items are also held out"):
        run(*SHORT, "pack.leak=true")
    assert not (folder(tmp_path) / "stages/00-base").exists()


def test_an_error_of_a_stage_keeps_its_class_and_message(tmp_path, run):
    with pytest.raises(DataError, match=r"02-warm: rows.jsonl:3: no answer. Add one."):
        run(*SHORT, "stages.warm.fail=data")
    record = json.loads((folder(tmp_path) / "run.json").read_text())
    assert record["status"] == "failed: DataError"


def test_a_bug_of_a_stage_names_the_exception_and_the_log(run):
    with pytest.raises(TrainingError, match=r"raised ZeroDivisionError: a bug of the stage. The traceback is in log.txt"):
        run(*SHORT, "stages.warm.fail=bug")


def test_a_killed_worker_names_the_signal_and_how_to_go_on(run):
    with pytest.raises(TrainingError, match=r"(?s)was killed by SIGKILL.*Run the same command again.*log.txt"):
        run(*SHORT, "stages.warm.fail=kill")


def test_two_builds_cannot_share_a_run(tmp_path):
    first = RunFolder(tmp_path / "run")
    with first.locked():
        with pytest.raises(RegistryError, match=rf"another build is writing this run \(process {os.getpid()}\)"):
            with RunFolder(tmp_path / "run").locked(wait_s=0.1):
                pass
    with RunFolder(tmp_path / "run").locked(wait_s=0.1):
        pass


def test_sigint_stops_cleanly_and_the_same_command_resumes(tmp_path, run):
    over = threading.Event()
    path = folder(tmp_path) / "stages/02-warm.partial/metrics.jsonl"
    timer = threading.Thread(target=_interrupt_when, args=(path, over, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(Interrupted, match="run the same command again to resume"):
            run()
    finally:
        over.set()
        timer.join()
    assert json.loads((folder(tmp_path) / "run.json").read_text())["status"] == "interrupted"
    _, result = run()
    assert result["chosen"] == "warm"
    steps = [json.loads(line)["step"] for line in (folder(tmp_path) / "stages/02-warm/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 31))


def test_sigusr1_makes_room_after_a_checkpoint_of_that_very_step(tmp_path, run):
    over, stages = threading.Event(), folder(tmp_path) / "stages"
    timer = threading.Thread(target=_interrupt_when, args=(stages / "02-warm.partial/metrics.jsonl", over, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Preempted, match=r"made room in 02-warm.*Run the same command again") as caught:
            run()
    finally:
        over.set()
        timer.join()
    assert caught.value.exit_code == 75
    done = len((stages / "02-warm.partial/metrics.jsonl").read_text().splitlines())
    kept = json.loads((stages / "02-warm.partial/checkpoints/state.json").read_text())
    assert kept["step"] == done < 30, "no step is lost, checkpoint interval or not"
    _, result = run()
    assert result["chosen"] == "warm" and not (stages / "02-warm/stop-at-next-step").exists()


def test_a_step_that_does_not_know_the_wish_ends_first(tmp_path, run):
    """SIGUSR1 during an eval: it is finished, and the build makes room before the next step."""
    over, stages = threading.Event(), folder(tmp_path) / "stages"
    timer = threading.Thread(target=_interrupt_when, args=(stages / "01-base-eval.partial", over, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Preempted, match="between steps"):
            run()
    finally:
        over.set()
        timer.join()
    assert (stages / "01-base-eval").is_dir() and not (stages / "01-base-eval/stop-at-next-step").exists()


def _interrupt_when(path: Path, over: threading.Event, number: int) -> None:
    """Send a signal to this process once `path` exists; never after the build is over, or it would hit pytest itself."""
    while not over.wait(0.01):
        if path.exists():
            os.kill(os.getpid(), number)
            return
