"""TimeMaster's reward as published and mended, the rubric, and properties of all verifiers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import DataRequest, Message, Sample, Status
from factory.domains.timeseries import PACK
from factory.domains.timeseries.extension import CAP, has_stock_phrase, rubric
from factory.domains.timeseries.timemaster import TimeMasterReward, total
from factory.domains.timeseries.verifiers import build_verifiers
from factory.errors import PluginError
from factory.rewards.mixture import Mixture

VERIFIERS = PACK.verifiers()
GOOD = "Top taper fits Laptop, so charge during cheap hours, limit the battery to eighty percent, unplug the adapter afterwards, and measure it."
THINK = "<think>the top is a taper</think>"
LAPTOP = Sample(
    "ctu", "classify", (Message("user", "0 9 5 3\nctu : Desktop or Laptop ?"),), "Laptop",
    meta={"classes": ["Desktop", "Laptop"], "features": {"top": "taper"}, "form": "timemaster"},
)  # fmt: skip


def reward(completion: str, variant: str = "mended", sample: Sample = LAPTOP) -> float:
    """R in [0, 1.5]."""
    verdict = TimeMasterReward(variant=variant)(completion, sample)
    assert math.isclose(verdict.score * 1.5, verdict.parts["reward"], abs_tol=1e-12)
    return verdict.parts["reward"]


@pytest.mark.parametrize(
    ("completion", "mended", "released"),
    [
        # guides/domains.md 12: full three-part output -> 1.0 (+ 0.5 ext); here ext = 4 of 4 checks.
        (f"{THINK}<class>Laptop</class><extension>{GOOD}</extension>", 1.5, 1.5),
        (f"{THINK}<class>laptop</class><extension> </extension>", 1.0, 1.0),
        # wrong but valid label -> 0.1; unknown label -> 0
        (f"{THINK}<class>Desktop</class><extension>{GOOD}</extension>", 0.1, 0.1),
        (f"{THINK}<class>Tablet</class><extension>{GOOD}</extension>", 0.0, 0.0),
        # a good extension (1.0) with a stock phrase: 1.0 + 0.5 x 0.4 = 1.2
        (f"{THINK}<class>Laptop</class><extension>{GOOD} Run further tests.</extension>", 1.2, 1.2),
        # FAULTS of the release: the first class anywhere counts, also in the reasoning; the reasoning is not required.
        (f"<think>x <class>Laptop</class></think><class>Desktop</class><extension>{GOOD}</extension>", 0.0, 1.5),
        ("<class>Laptop</class>", 0.9, 1.0),
        # two classes: mended reads none, the release reads the first
        (f"{THINK}<class>Laptop</class><class>Desktop</class><extension>x</extension>", 0.0, 1.0),
        (f"{THINK}<class>Desktop</class><class>Laptop</class><extension>x</extension>", 0.0, 0.1),
        ("", 0.0, 0.0),
    ],
)  # fmt: skip
def test_golden_rows_of_timemaster(completion: str, mended: float, released: float) -> None:
    if "<think>x <class>" in completion:
        # The release cites features from the reasoning; this one's reasoning has none, so ext is 3 of 4: 1.0 + 0.5 x 0.75.
        released = 1.375
    assert reward(completion) == pytest.approx(mended)
    assert reward(completion, "released") == pytest.approx(released)


def test_total_is_the_published_formula() -> None:
    assert total(1, 1) == 1.0 and total(0, 1) == pytest.approx(0.1) and total(0, 0) == 0.0
    assert total(1, 1, 0.8, extension="see further tests") == pytest.approx(1.0 + 0.5 * 0.4)
    assert total(1, 1, 0.8, extension="rest") == pytest.approx(1.4)
    assert total(1, 0, 1.0, extension="rest") == pytest.approx(0.9)
    assert total(1, 1, 1.0, extension="  ") == 1.0


@pytest.mark.parametrize(
    "text",
    ["Further tests are needed.", "further diagnostic tests", "consider the clinical  history", "a PHYSICAL EXAMINATION",
     "refer to specialist", "refer to a specialist", "to confirm the diagnosis"],
)  # fmt: skip
def test_stock_phrases(text: str) -> None:
    assert has_stock_phrase(text)
    assert rubric(f"{GOOD} {text}", "Laptop", "the top is a taper", {"top": "taper"}).score == CAP


def test_rubric_counts_four_checks() -> None:
    def score(text: str, thinking: str = "top taper") -> float:
        return rubric(text, "Laptop", thinking, {"top": "taper"}).score

    assert score(GOOD) == 1.0
    assert score(GOOD.replace("Laptop", "desk")) == 0.75
    assert score(GOOD, "no such words") == 0.75
    assert score("Laptop") == 0.25 and score("Laptop taper") == 0.5 and score("Laptop taper, measure") == 0.75
    assert score("") == 0.0 and score("Laptop taper measure " * 500) == 0.0
    assert not has_stock_phrase(GOOD)
    # a class inside another word does not count
    assert not rubric("Laptops", "Laptop", "", {}).names_class


def test_the_generators_own_advice_is_worth_everything() -> None:
    options = {"form": "timemaster", "shares": {"classify": 1.0}}
    for lesson in PACK.lessons("train", 1, DataRequest(limit=40, options=options)):
        assert VERIFIERS["extension"](lesson.response, lesson.sample).score == 1.0


def test_mixture_weighs_as_timemaster() -> None:
    mixture = Mixture(PACK.manifest.tasks, {"classify": {"extension": 0.5}}, known=VERIFIERS)
    for completion, want in (
        (f"{THINK}<class>Laptop</class><extension>{GOOD}</extension>", 1.5),
        (f"{THINK}<class>Laptop</class><extension>{GOOD} Run further tests.</extension>", 1.2),
        (f"{THINK}<class>Desktop</class><extension>{GOOD}</extension>", 0.1),
        (f"{THINK}<class>Tablet</class><extension>{GOOD}</extension>", 0.0),
    ):
        verdicts = {name: VERIFIERS[name](completion, LAPTOP) for name in mixture.verifiers_for("classify")}
        assert mixture.combine("classify", verdicts).value == pytest.approx(want / 1.5)
        assert reward(completion) == pytest.approx(want)


def test_label_10_is_not_1() -> None:
    sample = replace(LAPTOP, reference="10", meta={"classes": [str(n) for n in range(1, 11)], "form": "answer"})
    for answer, right in (("10", True), ("1", False), ("0", False), ("1 0", False), ("10.", True), ("1 or 10", False)):
        assert VERIFIERS["label"](f"{THINK}<answer>{answer}</answer>", sample).score == float(right), answer


def test_a_faulty_sample_is_no_wrong_answer() -> None:
    for meta in ({}, {"classes": []}, {"classes": ["A", "B"]}):
        with pytest.raises(ValueError, match="ctu"):
            VERIFIERS["label"]("<class>Laptop</class>", replace(LAPTOP, meta=meta))


def test_each_task_names_one_answer_verifier() -> None:
    with pytest.raises(PluginError, match=r"tasks\.x must name exactly one"):
        build_verifiers({"x": {"verifiers": {"closed": 1.0, "interval": 1.0}}})
    with pytest.raises(ValueError, match="knows"):
        VERIFIERS["accuracy"]("x", replace(LAPTOP, task="unheard"))


SAMPLES = [*PACK.samples("test", 1, DataRequest(limit=60)), LAPTOP]
PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<class>", "</class>", "<extension>", "</extension>", "Laptop", "Desktop", "healthy",
     "red", "up", "[16, 24]", "24", " or ", "\n", "\x00", "é", "1e999", "nan", "further tests"]
)  # fmt: skip
TEXT = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=14).map("".join))


@settings(max_examples=200, deadline=None)
@given(TEXT, st.sampled_from(SAMPLES))
def test_any_text_gets_a_verdict_in_bounds(text: str, sample: Sample) -> None:
    mixture = Mixture(PACK.manifest.tasks, known=VERIFIERS)
    for name in (*mixture.verifiers_for(sample.task), "accuracy"):
        verdict = VERIFIERS[name](text, sample)
        assert 0.0 <= verdict.score <= 1.0 and verdict.reason and not verdict.status.is_masked
        assert VERIFIERS[name](text, sample) == verdict
        if name == "accuracy":
            assert verdict.score in (0.0, 1.0)
            assert (verdict.score == 1.0) == (verdict.status is Status.ok)
    if sample.task == "classify":
        assert VERIFIERS["timemaster_original"](text, sample).score <= 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["Laptop", "Desktop", "Tablet"]), min_size=2, max_size=4))
def test_listing_classes_never_pays(labels: list[str]) -> None:
    answer = ", ".join(labels)
    assert reward(f"{THINK}<class>{answer}</class><extension>{GOOD}</extension>") == 0.0
