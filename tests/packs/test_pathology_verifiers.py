"""The pack's own verifiers, with Hypothesis: bounds, agreement, and that nothing but the answer is paid."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import DataRequest, Message, Sample, Status
from factory.domains.pathology.verifiers import build_verifiers, synonyms
from factory.errors import PluginError
from factory.plugins import load_pack
from factory.rewards.mixture import Mixture

PACK = load_pack("pathology")
VERIFIERS = PACK.verifiers()
MIXTURE = Mixture(PACK.manifest.tasks, known=VERIFIERS)
SAMPLES = list(PACK.samples("test", 1, DataRequest(limit=60)))
SAMPLE = st.sampled_from(SAMPLES)
PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "A",
        "B",
        "present",
        "yes",
        " or ",
        "[0, 8, 16, 24]",
        "\n",
        "\x00",
        "é",
        "1+",
    ]
)
TEXT = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=14).map("".join))


def reward(completion, sample):
    return MIXTURE.combine(
        sample.task, {name: VERIFIERS[name](completion, sample) for name in MIXTURE.verifiers_for(sample.task)}
    )


@given(text=TEXT, sample=SAMPLE)
@settings(max_examples=300, deadline=None)
def test_any_text_gets_a_bounded_verdict_with_a_reason(text, sample):
    for name in (*MIXTURE.verifiers_for(sample.task), "accuracy"):
        verdict = VERIFIERS[name](text, sample)
        assert 0.0 <= verdict.score <= 1.0 and verdict.reason and not verdict.status.is_masked
        assert verdict == VERIFIERS[name](text, sample)


@given(text=TEXT, sample=SAMPLE)
@settings(max_examples=300, deadline=None)
def test_what_the_strict_reader_pays_in_full_the_lenient_one_pays_too(text, sample):
    strict = {
        "finding": "closed",
        "yes_no": "closed",
        "choice": "letter",
        "diagnosis": "letter",
        "impression": "closed",
        "region": "region",
    }[sample.task]
    if VERIFIERS[strict](text, sample).score == 1.0 and sample.task != "diagnosis":
        assert VERIFIERS["accuracy"](text, sample).score == 1.0


@given(sample=SAMPLE, before=st.text(alphabet="abc .", max_size=20))
def test_gold_is_paid_in_full_and_only_inside_the_answer(sample, before):
    gold = PACK.gold(sample)
    assert reward(gold, sample).value == pytest.approx(1.0)
    assert reward(f"<think>{before}{gold.split('<answer>')[1].split('</answer>')[0]}</think>", sample).value == 0.0


@given(sample=SAMPLE, other=SAMPLE)
@settings(max_examples=150, deadline=None)
def test_another_answer_earns_the_form_alone(sample, other):
    if other.task == sample.task != "region" and other.reference != sample.reference:
        # form only: 0.1 of 1.1
        assert reward(PACK.gold(other), sample).value == pytest.approx(0.1 / 1.1)


def test_a_broken_form_with_the_right_answer_earns_the_answer_alone():
    sample = next(s for s in SAMPLES if s.task == "diagnosis")
    # text after the answer: the letter is still read (1.0 of 1.1), the form is lost
    assert reward(PACK.gold(sample) + " so there", sample).value == pytest.approx(1.0 / 1.1)


def test_listing_all_options_is_no_lenient_answer():
    for sample in (s for s in SAMPLES if "options" in s.meta):
        verdict = VERIFIERS["accuracy"](sample.messages[-1].content, sample)
        assert verdict.status is Status.unparsable and verdict.score == 0.0


def test_format_and_length_follow_the_sample_when_thinking_is_off():
    sample = replace(SAMPLES[0], meta={**SAMPLES[0].meta, "thinking": "off"})
    for name in ("format", "length"):
        assert VERIFIERS[name]("<answer>A</answer>", sample).score == 1.0
        assert VERIFIERS[name]("<think>a b c</think><answer>A</answer>", sample).score == 0.0


def test_length_takes_samples_without_a_difficulty_as_medium():
    sample = Sample("real", "choice", (Message("user", "q"),), "A", meta={"options": {"A": "x", "B": "y"}})
    assert VERIFIERS["length"]("<think>one two three</think><answer>A</answer>", sample).reason.endswith("(medium)")


def test_accuracy_refuses_a_task_it_does_not_know():
    with pytest.raises(ValueError, match="task 'poem'"):
        VERIFIERS["accuracy"]("x", replace(SAMPLES[0], task="poem"))


def test_a_task_needs_exactly_one_answer_verifier():
    with pytest.raises(PluginError, match=r"tasks.both must name exactly one of letter, closed, region, it names 2"):
        build_verifiers({"both": {"verifiers": {"letter": 1.0, "closed": 1.0}}})


@pytest.mark.parametrize(("said", "gold"), [
    ("H&E", "he"), ("Hematoxylin and eosin", "he"), ("haematoxylin and eosin.", "he"), ("Immunohistochemistry", "ihc"), ("DAB", "ihc"),
    ("tumor", "tumour"), ("<1%", "negative"), ("True", "yes"), ("DAB positive", "positive"),
])  # fmt: skip
def test_synonyms(said, gold):
    sample = Sample("s", "finding", (Message("user", "q"),), gold)
    assert VERIFIERS["closed"](f"<think>a</think><answer>{said}</answer>", sample).score == 1.0


def test_synonyms_are_read_as_text():
    # YAML would read a bare `no` or `yes` as a truth value
    assert {"yes", "no"} <= set(synonyms()) and all(isinstance(key, str) for key in synonyms())
