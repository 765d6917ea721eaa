"""Laws that every ready-made verifier keeps, whatever the text."""

import math
import pickle
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Message, Sample, Status, Verdict
from factory.rewards.detections import BoxSet
from factory.rewards.instructions import FollowsInstructions
from factory.rewards.intervals import IntervalIoU
from factory.rewards.json_schema import JsonAnswer
from factory.rewards.languages import InLanguage
from factory.rewards.math_answers import MathAnswer
from factory.rewards.numeric import NumericAnswer
from factory.rewards.option_sets import OptionSet
from factory.rewards.overlaps import TextOverlap
from factory.rewards.pool_wire import checked_verdict
from factory.rewards.puzzles import Integers, SceneChanges
from factory.rewards.rankings import Ranking
from factory.rewards.sets import LabelSet, TokenF1
from factory.rewards.verifiers import ClosedAnswer, ExactText, OptionLetter, RegionIoU, YesNo
from factory.rewards.wording import LengthWithin, NoRepetition
from factory.testing.audit_mutations import attempts

OPTIONS = ["normal gland", "adenocarcinoma", "lymphoid tissue", "necrosis"]
SENTENCE = "The answer is the one that we have found in the text"


class Case(NamedTuple):
    """One verifier with what earns everything."""

    verifier: Any
    reference: Any
    gold: str
    meta: Mapping[str, Any] = MappingProxyType({})

    @property
    def sample(self) -> Sample:
        """The sample that the gold answers."""
        return Sample("s", "t", (Message("user", f"Which is it? {SENTENCE}"),), self.reference, meta=dict(self.meta))


def tagged(answer: str) -> str:
    """An answer in the commonest shape."""
    return f"<think>a</think><answer>{answer}</answer>"


BOXES = [{"bbox_2d": [0, 0, 10, 10], "label": "cat"}, {"bbox_2d": [20, 20, 30, 30], "label": "dog"}]
CHANGES = [["1", "color", "red"], ["2", "size", "big"]]
CASES: dict[str, Case] = {
    "letter": Case(OptionLetter(), "B", tagged("B"), {"options": OPTIONS}),
    "letter lenient": Case(OptionLetter(mode="lenient"), "B", "B. adenocarcinoma", {"options": OPTIONS}),
    **{
        f"options {rule}": Case(OptionSet(rule=rule), ["A", "C"], tagged("A, C"), {"options": OPTIONS})
        for rule in ("exact", "soft", "f1", "jaccard")
    },
    "closed": Case(ClosedAnswer(), "gland", tagged("Gland.")),
    "exact": Case(ExactText(), "CC O", tagged("CC O")),
    "yes": Case(YesNo(), "yes", tagged("Yes.")),
    "number": Case(NumericAnswer(rel_tol=0.01), "24 mEq/L", tagged("24.1 meq/L".replace("meq", "mEq"))),
    "number decimals": Case(NumericAnswer(rule="decimals"), 1.234, tagged("1.23")),
    "number close": Case(NumericAnswer(rule="closeness"), -4, tagged("-4")),
    "math": Case(MathAnswer(), "\\frac{1}{2}", "so it is \\boxed{0.5}"),
    "boxed": Case(ClosedAnswer(shape="boxed"), "gland", "\\boxed{\\text{gland}}"),
    "json": Case(JsonAnswer(), {"count": 2}, 'thus {"count": 2}'),
    "json fields": Case(JsonAnswer(rule="fields"), {"a": [1, {"b": "x"}]}, '{"a": [1, {"b": "X"}]}'),
    "json valid": Case(JsonAnswer(rule="valid", schema={"type": "object", "required": ["a"]}), None, '{"a": 0}'),
    **{f"labels {rule}": Case(LabelSet(rule=rule), ["x", "y"], tagged("y, x")) for rule in ("exact", "f1", "jaccard", "precision")},
    "tokens": Case(TokenF1(), "a red fox", tagged("A red fox.")),
    "ndcg": Case(Ranking(), ["a", "b"], tagged("b, a, c")),
    "mm_r5": Case(Ranking(rule="mm_r5"), ["a", "b"], tagged("b, a, c")),
    "order": Case(Ranking(rule="exact"), ["a", "b", "c"], tagged("a, b, c")),
    "pairs": Case(Ranking(rule="pairs"), ["a", "b", "c"], tagged("a; b; c")),
    **{f"text {rule}": Case(TextOverlap(rule=rule), "Fig 12 b", tagged("Fig 12 b")) for rule in ("edit", "anls", "wer", "rouge")},
    "box": Case(RegionIoU(), [0, 0, 10, 10], tagged("[0, 0, 10, 10]")),
    **{
        f"boxes {rule}": Case(BoxSet(rule=rule), BOXES, tagged(str(BOXES).replace("'", '"')))
        for rule in ("f1", "recall_precision", "mean_iou", "griffon")
    },
    "interval": Case(IntervalIoU(), [3, 5.5], tagged('{"start": 3, "end": 5.5}'), {"duration": 10}),
    "interval temporal-r1": Case(IntervalIoU(format_share=0.5), [3, 5.5], tagged("3.0 to 5.5")),
    "counting": Case(Integers(rule="counting"), [3, 5], tagged("[3, 5]")),
    "clips": Case(Integers(), [2, 0, 1], tagged("2, 0, 1")),
    "patches": Case(Integers(rule="patches"), [2, 0, 1], tagged("2 0 1")),
    "adjacency": Case(Integers(rule="adjacency"), [2, 0, 1, 3], tagged("2 0 1 3"), {"grid": [2, 2]}),
    "changes": Case(SceneChanges(), CHANGES, tagged(str(CHANGES).replace("'", '"'))),
    "language": Case(InLanguage(), None, SENTENCE, {"language": "en"}),
    "instructions": Case(
        FollowsInstructions(), None, "<think>a, b</think>no commas here",
        {"constraints": [{"name": "punctuation:no_comma", "args": {}}]},
    ),
    "repetition": Case(NoRepetition(), None, SENTENCE),
    "length": Case(LengthWithin(fewest=3, most=50), None, SENTENCE),
}  # fmt: skip
NEEDS_NO_ANSWER = {"language", "instructions", "repetition", "length"}
"""Verifiers of wording: many completions are right."""

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
    assert (verdict.score, verdict.status) == (1.0, Status.ok), verdict
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


PAYS_IN_PART = {"options f1", "options jaccard", "json valid"}
"""All options named are half right by these rules; a schema alone asks for no particular answer."""


@pytest.mark.parametrize("name", sorted(set(CASES) - NEEDS_NO_ANSWER - PAYS_IN_PART))
def test_no_attempt_of_the_audit_pays(name):
    case = CASES[name]
    sample = case.sample
    others = {
        "math": "\\boxed{7}",
        "boxed": "\\boxed{stroma}",
        "json": '{"count": 5}',
        "json fields": '{"a": [7, {"b": "q"}]}',
    }.get(name)
    others = [others] if others else [tagged(text) for text in ("D", "no", "99 kg", "zebra", "[70, 70, 90, 90]", "77.5 to 99")]
    paid = {}
    for attempt in attempts(sample, case.gold, [text for text in others if case.verifier(text, sample).score < 0.5]):
        verdict = case.verifier(attempt.completion, sample)
        if verdict.score >= 0.5:
            paid[attempt.mutation] = (verdict.score, attempt.completion[:80])
    assert not paid, paid
