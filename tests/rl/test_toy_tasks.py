"""The benchmark's tasks: exact answers, no held-out question in training, every form in the lessons, and no preset left out."""

import sys
from itertools import islice
from pathlib import Path

import pytest

from factory.contracts import DataRequest
from factory.data.splits import find_overlap
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.presets import presets

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import techniques
import toy_images
import toy_task


def test_every_preset_is_measured_on_one_of_the_tasks():
    found = {task: techniques.chosen_names([], task) for task in techniques.SETUPS}
    names = [name for run, _ in found.values() for name in run]
    assert len(names) == len(set(names)) and set(presets()) <= {*names, *(name for _, why in found.values() for name in why)}
    assert "papo" in found["images"][0] and "srpo" in found["images"][0] and "grpo" in found["words"][0]
    assert not any(why for _, why in found.values()), "a preset that no task suits must be reported to the reader of the log"


@pytest.mark.parametrize("task", [toy_task, toy_images])
def test_what_is_held_out_is_never_trained_on(task):
    train = [*task.samples("train", 0, DataRequest(limit=300)), *(lesson.sample for lesson in task.lessons("train", 0, None))]
    find_overlap(train, task.samples("test", 99, DataRequest(limit=200)))


def test_answers_by_hand():
    squares = ("red", "blue", "red", "white")
    assert toy_images.answer("which", "top right", squares) == "blue" and toy_images.answer("count", "red", squares) == "2"
    assert toy_images.box("bottom left") == [0, 32, 32, 64] and toy_images.box("red") == [0, 0, 64, 64]
    assert toy_task.answer("reverse", "ABD") == "D B A" and toy_task.answer("partner", "ABD") == "H G E"


def test_every_form_reads_its_own_lessons():
    exact = toy_images.VERIFIERS["exact"]
    squares = ("red", "blue", "red", "white")
    sample = toy_images.question("count", "red", squares, "train")
    for form, said in toy_images.responses("count", "red", squares, squares).items():
        piece = make("format", form, {})
        judged = piece.judged(said) if hasattr(piece, "judged") else said
        assert exact(judged, sample).score == 1.0, form
        if form != "pack":
            assert piece.read(said)["form"] == "kept", form


def test_some_lessons_are_wrong_and_all_forms_come():
    lessons = list(islice(toy_images.lessons(request=DataRequest(limit=400)), 400))
    forms = {form for form in toy_images.FORMS if any(f"-{form}-" in lesson.sample.id for lesson in lessons)}
    bare = [lesson for lesson in lessons if "-no_thinking-" in lesson.sample.id]
    wrong = sum(lesson.response != lesson.sample.reference for lesson in bare) / len(bare)
    # A quarter misread one square of four, in a colour that may be the same: the answer changes in about one of ten.
    assert forms == set(toy_images.FORMS) and 0.0 < wrong < 0.3
