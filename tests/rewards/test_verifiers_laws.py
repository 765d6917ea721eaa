"""Laws that every ready-made verifier keeps, whatever the text."""

import math
import pickle
import time
from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Status, Verdict
from factory.rewards.pool_wire import checked_verdict
from factory.testing.audit_mutations import attempts
from tests.rewards.verifier_table import CASES, NEEDS_NO_ANSWER, tagged

PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", "[", "]", "(", ")", ",", ";", "\n", " ", "A", "B", "1", "2.5", "-",
     "0", "e9", "/", "nan", "inf", "NaN", "\x00", "\ud800", "\u202e", "В", "٤", "true", "null", '"', ":", "=", "^", "\\frac", "$", "mg", "%",
     "the", "answer is", "*", "```", "{\"bbox_2d\":", "start", "9" * 40]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=25).map("".join)
SHAPED = st.one_of(TEXTS, TEXTS.map(tagged), TEXTS.map(lambda t: f"\\boxed{{{t}}}"), TEXTS.map(lambda t: f"[{t}]").map(tagged))


@pytest.mark.parametrize("name", CASES)
def test_the_gold_earns_everything_and_another_answer_does_not(name):
    case = CASES[name]
    verdict = case.verifier(case.gold, case.sample)
    assert (verdict.score, verdict.status) == (1.0 if name != "number close" else 1.0, Status.ok), verdict
    if name not in NEEDS_NO_ANSWER:
        assert case.verifier(tagged("something else entirely"), case.sample).score < 0.5
        assert case.verifier("", case.sample).status is Status.unparsable


@pytest.mark.parametrize("name", CASES)
def test_it_is_a_frozen_dataclass_that_pickles_and_names_its_version(name):
    verifier = CASES[name].verifier
    assert is_dataclass(verifier) and isinstance(verifier.version, str) and verifier.name
    with pytest.raises(AttributeError):
        verifier.name = "other"
    again = pickle.loads(pickle.dumps(verifier))
    assert again == verifier and again(CASES[name].gold, CASES[name].sample).score == 1.0
    assert {"name", "version"} <= {field.name for field in fields(verifier)}


@pytest.mark.parametrize("name", CASES)
@given(text=SHAPED)
@settings(max_examples=60, deadline=None)
def test_any_text_gets_a_sound_verdict_twice_the_same(name, text):
    case = CASES[name]
    verdict = case.verifier(text, case.sample)
    assert isinstance(verdict, Verdict) and 0.0 <= verdict.score <= 1.0 and math.isfinite(verdict.score)
    assert verdict.status in (Status.ok, Status.wrong, Status.unparsable) and verdict.reason.strip()
    assert verdict.status is not Status.unparsable or verdict.score == 0.0
    assert checked_verdict(verdict) == verdict
    assert case.verifier(text, case.sample) == verdict


@pytest.mark.parametrize("name", CASES)
def test_long_texts_cost_little(name):
    case = CASES[name]
    began = time.process_time()
    for unit in ("a ", "<answer>", "[", "(", "9", "1,", "A, ", "\\boxed{", "^", "- ", "=", " ", "\n", "x\n", "é", "the "):
        case.verifier((unit * 100_000)[:100_000], case.sample)
        case.verifier(tagged((unit * 100_000)[:19_000]), case.sample)
    assert time.process_time() - began < 12.0


@pytest.mark.parametrize("name", [name for name in CASES if name not in NEEDS_NO_ANSWER and not name.startswith("json valid")])
def test_no_attempt_of_the_audit_pays(name):
    case = CASES[name]
    sample = replace(case.sample, meta=case.meta)
    others = {"math": "\\boxed{7}", "boxed": "\\boxed{stroma}", "json": '{"count": 5}', "json fields": '{"a": [7, {"b": "q"}]}'}.get(name)
    others = [others] if others else [tagged(text) for text in ("D", "no", "99 kg", "zebra", "[70, 70, 90, 90]", "77.5 to 99")]
    paid = {}
    for attempt in attempts(sample, case.gold, [text for text in others if case.verifier(text, sample).score < 0.5]):
        verdict = case.verifier(attempt.completion, sample)
        if verdict.score >= 0.5:
            paid[attempt.mutation] = (verdict.score, attempt.completion[:80])
    # Lists are read in part by nature: a list of everything keeps what was right in it.
    assert not paid, paid
