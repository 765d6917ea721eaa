"""Phantoms, questions and splits."""

from __future__ import annotations

import io
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from factory.contracts import DataRequest
from factory.domains.medicine import PACK
from factory.domains.medicine.departments import DEPARTMENTS, department_of, draw_case
from factory.domains.medicine.image_questions import impression
from factory.domains.medicine.opinions import attending_question, tier_of
from factory.domains.medicine.options import SHARES
from factory.domains.medicine.phantoms import VIEWS, Lesion, Phantom, draw_phantom
from factory.domains.medicine.render import pixels, render
from factory.errors import ConfigError


def drawn(role: str, split: str = "train", limit: int = 60, **options):
    return list(getattr(PACK, role)(split, 0, DataRequest(limit=limit, options=options)))


@given(st.integers(0, 100_000))
def test_findings_follow_from_the_parameters(seed):
    phantom = draw_phantom(random.Random(seed))
    found = phantom.findings()
    assert (found["lesion"] == "present") == bool(phantom.lesions)
    if phantom.lesions:
        assert int(found["count"]) == len(phantom.lesions)
        xs = [lesion.x for lesion in phantom.lesions]
        assert max(xs) < 32 or min(xs) > 32


def test_the_patients_left_is_on_the_right_of_radiological_views_only():
    on_image_right = (Lesion(46, 32, 2.0),)
    assert Phantom("ct", "chest", on_image_right).side == "left"
    assert Phantom("fundus", "eye", on_image_right).side == "right"


@pytest.mark.parametrize("view", VIEWS)
def test_a_lesion_changes_the_pixels_where_it_lies_and_nowhere_else(view):
    without = pixels(Phantom(*view, (), 5)).astype(int)
    with_one = pixels(Phantom(*view, (Lesion(46, 24, 4.5),), 5)).astype(int)
    difference = np.abs(with_one - without).max(axis=2)
    assert difference[20:28, 42:50].mean() > 25
    assert difference[:, :30].mean() < 4 if view[0] != "mri" else True  # Gibbs ringing is not local


def test_rendering_is_a_function_of_the_phantom():
    phantom = draw_phantom(random.Random(3), modality="mri")
    assert render(phantom) == render(phantom)
    with Image.open(io.BytesIO(render(phantom))) as image:
        assert image.size == (64, 64) and image.mode == "RGB"


def test_impression_by_hand():
    assert impression(Phantom("ct", "chest", (Lesion(46, 20, 6.5), Lesion(46, 40, 6.5)))) == "left masses"
    assert impression(Phantom("ct", "chest", (Lesion(18, 20, 3.2),))) == "right nodule"
    assert impression(Phantom("ct", "chest")) == "clear"


def test_departments_are_equally_likely_and_right():
    rng = random.Random(0)
    counts = Counter(department_of(draw_case(rng)) for _ in range(1400))
    assert set(counts) == set(DEPARTMENTS) and max(counts.values()) < 1.5 * min(counts.values())
    large, small = (Lesion(46, 24, 6.5),), (Lesion(46, 24, 3.2),)
    assert department_of(Phantom("ct", "head", large)) == "oncologist"
    assert department_of(Phantom("ct", "head", small)) == "radiologist"
    assert department_of(Phantom("fundus", "eye", large)) == "ophthalmologist"


@given(st.integers(0, 5000), st.integers(1, 6))
def test_tiers_are_the_specialists_accuracy(seed, num):
    question = attending_question(random.Random(seed), "full", num)
    opinions = question.meta["opinions"]
    right = sum(opinion == question.answer for opinion in opinions)
    assert len(opinions) == num and question.meta["specialist_accuracy"] == right / num
    assert question.meta["tier"] == ("easy" if right == num else "hard" if right == 0 else "medium")
    assert question.text.count("Opinion ") == num


@pytest.mark.parametrize(("accuracy", "tier"), [(1.0, "easy"), (0.5, "medium"), (1 / 3, "medium"), (0.0, "hard")])
def test_tier(accuracy, tier):
    assert tier_of(accuracy) == tier


def test_tier_of_no_share_is_refused():
    with pytest.raises(ValueError, match="want a share"):
        tier_of(1.5)


@pytest.mark.parametrize("task", SHARES)
@pytest.mark.parametrize("style", ["terse", "full"])
def test_every_task_is_asked_in_both_styles_and_its_lesson_is_right(task, style):
    accuracy = PACK.verifiers()["accuracy"]
    for lesson in drawn("lessons", limit=6, shares={task: 1}, style=style):
        assert lesson.sample.task == task
        assert accuracy(lesson.response, lesson.sample).score == 1.0
        assert (lesson.sample.meta["form"] == "think_answer") and lesson.response.startswith("<think>")


@pytest.mark.parametrize("form", ["answer", "huatuo"])
def test_other_forms_earn_everything_too(form):
    accuracy, kept = PACK.verifiers()["accuracy"], PACK.verifiers()["format"]
    for lesson in drawn("lessons", limit=24, form=form, style="full", system="clinician"):
        assert kept(lesson.response, lesson.sample).score == 1.0
        assert accuracy(lesson.response, lesson.sample).score == 1.0
        assert lesson.sample.messages[0].role == "system"


def test_answers_of_a_task_are_balanced():
    samples = drawn("samples", limit=400, shares={"acid_base": 1, "triage": 1, "open": 1, "closed": 1, "ecg": 1})
    for task in ("acid_base", "triage", "open", "closed", "ecg"):
        counts = Counter(sample.reference for sample in samples if sample.task == task)
        assert counts.most_common(1)[0][1] / counts.total() < 0.36, task


@settings(deadline=None, max_examples=3)
@given(st.integers(0, 1000))
def test_no_text_question_is_in_two_splits(seed):
    texts = {}
    shares = {"acid_base": 1, "ecg": 1, "calculator": 1, "entities": 1}
    for split in ("train", "validation", "test"):
        request = DataRequest(limit=150, options={"shares": shares})
        texts[split] = {sample.text() for sample in PACK.samples(split, seed, request)}
        if split == "train":
            texts["train"] |= {lesson.sample.text() for lesson in PACK.lessons(split, seed, request)}
            for document in PACK.corpus(split, seed, DataRequest(limit=60, options={"shares": shares, "textbook": 1.0})):
                texts["train"] |= {line for line in document.text.splitlines() if line.endswith("?")}
    assert not texts["train"] & (texts["test"] | texts["validation"])
    assert not texts["validation"] & texts["test"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": {"closd": 1}}, "closed"),
        ({"style": "short"}, "terse"),
        ({"calculators": ["fena"]}, "anion_gap"),
        ({"form": "boxed"}, "think_answer"),
        ({"stile": "full"}, "style"),
        ({"specialists": 0}, "1 to 9"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        drawn("samples", limit=1, **options)


def test_options_of_a_calculation_are_the_classic_slips():
    for sample in drawn("samples", limit=40, shares={"choice": 1}, style="full"):
        if "calculator" not in sample.meta:
            continue
        slips = sample.meta["slips"]
        assert set(slips) == set(sample.meta["options"]) - {sample.reference}
        assert len(set(slips.values())) == 3
