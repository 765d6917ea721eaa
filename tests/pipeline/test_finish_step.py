"""A kill at any moment of finishing a step: before the folder has its final name its checkpoints are whole, after it the step is."""

from __future__ import annotations

import os

import pytest

from factory.pipeline import folder as folder_module
from factory.pipeline.folder import CHECKPOINTS, JOB, OUTPUTS, RunFolder
from factory.registry.files import write_json

STEP, PRINT = "02-cpt", "f" * 64


class Killed(BaseException):
    """Stands for a kill -9: nothing after it runs."""


@pytest.fixture
def half_done(tmp_path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    place = run.begin(STEP, {"fingerprint": PRINT}, may_resume=True)
    (place / CHECKPOINTS / "step-00000004").mkdir(parents=True)
    (place / CHECKPOINTS / "step-00000004" / "state.json").write_text("{}")
    (place / "model").mkdir()
    (place / "model" / "weights").write_text("w")
    write_json(place / OUTPUTS, {"model": "model"})
    return run


def finish(run: RunFolder) -> dict:
    return run.finish(STEP, PRINT, {}, {"reads": {}}, 1.0)


def test_killed_before_the_name_it_resumes_from_its_checkpoint(half_done, monkeypatch):
    def killed(*_):
        raise Killed

    monkeypatch.setattr(folder_module, "rename_folder", killed)
    with pytest.raises(Killed):
        finish(half_done)
    assert half_done.state(STEP, PRINT, {}).why == "resumes"
    place = half_done.begin(STEP, {"fingerprint": PRINT}, may_resume=True)
    assert os.listdir(place / CHECKPOINTS) == ["step-00000004"]


def test_killed_after_the_name_it_is_finished_and_tidied_at_the_next_look(half_done, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "tidy", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            finish(half_done)
    assert half_done.state(STEP, PRINT, {}, is_deep=True).is_cached
    assert (half_done.final(STEP) / JOB).exists()
    half_done.tidy(STEP)
    assert sorted(os.listdir(half_done.final(STEP))) == ["model", "stage.lock"]
    assert half_done.state(STEP, PRINT, {}, is_deep=True).is_cached


def test_neither_checkpoints_nor_torn_files_are_outputs(half_done):
    torn = half_done.partial(STEP) / ".outputs.json.abc.tmp"
    torn.write_text("{")
    half_done.begin(STEP, {"fingerprint": PRINT}, may_resume=True)
    assert not torn.exists()
    write_json(half_done.partial(STEP) / OUTPUTS, {"model": "model"})
    assert set(finish(half_done)["outputs"]["files"]) == {"model/weights"}
