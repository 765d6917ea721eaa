"""Files that one stage leaves for another: who may read whom, what it costs to change them, and what a resume may trust."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from factory.contracts import Lesson, Message, Sample
from factory.errors import ConfigError, DataError, Interrupted
from factory.pipeline.steps import order_steps, resolve_reads
from factory.stages.lesson_files import lesson_row, write_rows


@dataclass
class Recipe:
    """Of a stage config, what reading depends on."""

    kind: str = "fake-train"
    start: str | None = None
    control: bool = False
    notes_from: str = ""
    reads: list[str] = field(default_factory=list)


@pytest.fixture
def run(tmp_path, base):
    """Build the recipe `notes` in tmp_path/home; returns the names of the steps that ran."""
    from fakekit.bench import build

    def _run(*overrides: str, on_event=lambda event: None) -> list[str]:
        ran = []

        def tell(event):
            if event.kind == "step-start":
                ran.append(event.step)
            on_event(event)

        build(tmp_path / "home", base, *overrides, recipe="notes", on_event=tell)
        return ran

    return _run


def stages(tmp_path: Path) -> Path:
    return tmp_path / "home" / "runs" / "run" / "stages"


def weights(tmp_path: Path, step: str = "05-tune") -> bytes:
    return (stages(tmp_path) / step / "model" / "model.safetensors").read_bytes()


def test_a_stage_reads_what_it_names_and_what_its_kind_finds(base):
    found = resolve_reads(
        {
            "look": Recipe("fake-notes"),
            "more": Recipe("fake-notes"),
            "tune": Recipe(notes_from="look", reads=["more", "look", "base"]),
        }
    )
    assert found == {"look": (), "more": (), "tune": ("more", "look", "base")}


def test_a_path_is_no_stage(base):
    assert resolve_reads({"tune": Recipe(notes_from="./look"), "again": Recipe(notes_from="x/lessons.jsonl")})["again"] == ()


def test_steps_know_the_folders_of_what_they_read_also_of_stages_without_a_model(base):
    recipe = {"look": Recipe("fake-notes"), "ctl": Recipe(control=True), "tune": Recipe(reads=["look", "ctl", "base"])}
    steps = {step.name: step for step in order_steps(recipe, eval_kind="fake-eval")}
    assert steps["05-tune"].reads == {"look": "02-look", "ctl": "03-ctl", "base": "00-base"}
    # What it reads is no start: the default still passes over the stage without a model and the control.
    assert steps["05-tune"].start == "00-base"
    assert all(not step.reads for name, step in steps.items() if name != "05-tune")


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"tune": Recipe(reads=["lok"]), "look": Recipe()}, r"reads 'lok', which is no stage of this build\. Use one of: base"),
        ({"look": Recipe("fake-notes"), "tune": Recipe(notes_from="lock")}, r"Did you mean 'look'\? Use one of: base, look"),
        ({"tune": Recipe(reads=["look"]), "look": Recipe()}, r"comes later in the recipe\. List 'look' before 'tune'"),
        ({"tune": Recipe(reads=["tune"])}, r"stages\.tune reads itself\. Name an earlier stage: base"),
    ],
)
def test_refused(base, recipe, told):
    with pytest.raises(ConfigError, match=told):
        resolve_reads(recipe)


def test_what_is_read_counts_in_the_fingerprint_of_the_reader_only(tmp_path, base):
    from fakekit.bench import planned

    def fingerprints(*overrides: str) -> dict[str, str]:
        return {step.name: step.fingerprint for step in planned(tmp_path, base, *overrides, recipe="notes").steps}

    before = fingerprints()
    after = fingerprints("stages.look.text=other")
    assert {name for name in before if before[name] != after[name]} == {"02-look", "05-tune", "06-tune-eval"}


def test_a_reader_is_given_the_finished_folder_and_runs_again_with_other_notes(tmp_path, run):
    assert run()[2:] == ["02-look", "03-plain", "04-plain-eval", "05-tune", "06-tune-eval"]
    first = weights(tmp_path)
    lock = json.loads((stages(tmp_path) / "05-tune" / "stage.lock").read_text())
    look = json.loads((stages(tmp_path) / "02-look" / "stage.lock").read_text())
    assert lock["inputs"]["reads"] == {"look": look["outputs"]["hash"]}
    assert run() == []
    assert run("stages.look.text=other") == ["02-look", "05-tune", "06-tune-eval"]
    assert weights(tmp_path) != first
    assert run() == [] and weights(tmp_path) == first


def test_notes_made_again_alike_keep_the_reader_and_others_do_not(tmp_path, run):
    run()
    (stages(tmp_path) / "02-look" / "notes.txt").unlink()
    assert run() == ["02-look"]
    run("stages.look.is_random=true")
    first = weights(tmp_path)
    (stages(tmp_path) / "02-look" / "notes.txt").unlink()
    assert run("stages.look.is_random=true") == ["02-look", "05-tune", "06-tune-eval"]
    assert weights(tmp_path) != first


def test_a_byte_flipped_without_a_trace_is_found_before_the_file_is_read(tmp_path, run):
    run()
    first, notes = weights(tmp_path), stages(tmp_path) / "02-look" / "notes.txt"
    stat = notes.stat()
    notes.write_text("jello")
    os.utime(notes, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run("stages.tune.quality=0.5")[0] == "02-look"
    assert notes.read_text() == "hello"
    run()
    assert weights(tmp_path) == first


def stop_at(step: str, row: int):
    """Send Ctrl-C to the conductor when a step has logged so many rows."""

    def on_event(event):
        if event.kind == "progress" and event.step == step and event.values["step"] == row:
            os.kill(os.getpid(), signal.SIGINT)

    return on_event


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_reader_left_half_done_goes_on_only_with_the_notes_it_began_with(tmp_path, run, is_made_again):
    settings = ("stages.look.is_random=true", "stages.tune.num_steps=30", "stages.tune.delay_s=0.03")
    with pytest.raises(Interrupted):
        run(*settings, on_event=stop_at("05-tune", 5))
    if is_made_again:
        (stages(tmp_path) / "02-look" / "notes.txt").unlink()
    run(*settings)
    # The kit leaves this mark when it takes up a checkpoint.
    assert (stages(tmp_path) / "resumed").exists() is not is_made_again
    rows = (stages(tmp_path) / "05-tune" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, 31))


def lessons_file(path: Path, text: str) -> Path:
    sample = Sample("elsewhere-7", "say", (Message("user", text),), "7")
    write_rows(path, [lesson_row(Lesson(sample, "7"))])
    return path


def test_a_file_of_lessons_counts_by_its_content_and_is_checked_for_overlap(tmp_path, base, run):
    from fakekit.bench import planned

    path = lessons_file(tmp_path / "lessons.jsonl", "Say something new.")
    setting = f"stages.tune.notes_from={path}"

    def fingerprint() -> str:
        return planned(tmp_path / "home", base, setting, recipe="notes").steps[-2].fingerprint

    before = fingerprint()
    lessons_file(path, "Say something newer.")
    assert fingerprint() != before
    run(setting)
    # The kit asks `Say test 3.` in its test split.
    lessons_file(path, "Say test 3.")
    with pytest.raises(
        DataError, match=r"1 training items are also held out(?s:.*)'elsewhere-7' = held out 'test-3' \(same text\)"
    ):
        run(setting)
