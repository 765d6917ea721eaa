"""Which answers count as equal, and which verifiers may judge a best-of-n without being an oracle."""

from types import SimpleNamespace

import pytest
import scripted
from scripted import draw, pack, sample

from factory.contracts import Manifest
from factory.rewards.pool import VerifierPool
from factory.rewards.verifiers import ExactText, OptionLetter, RegionIoU, YesNo
from factory.stages.eval.deliberate.answers import AnswerReader
from factory.stages.eval.deliberate.judges import scorer_judge, sees_reference, verifier_judge

SAMPLES = [sample(0), sample(1, reference="red"), sample(2, reference="green")]


def reader(verifier, weight=1.0):
    manifest = Manifest("p", "P", "1", "MIT", "tests", "else", tasks={"t": {"verifiers": {"answer": weight}}})
    return AnswerReader.of(SimpleNamespace(manifest=manifest, verifiers=lambda: {"answer": verifier}))


def key(verifier, text, **changes):
    return reader(verifier).key(draw(text), sample(task="t", **changes))


OPTIONS = {"meta": {"options": {"A": "red", "B": "blue"}}}


@pytest.mark.parametrize(
    ("verifier", "one", "other", "changes"),
    [
        (OptionLetter(), "<answer>B</answer>", "<answer>(b) blue</answer>", OPTIONS),
        (OptionLetter(), "<answer>blue</answer>", "The answer is B.", OPTIONS),
        (YesNo(), "<answer>Yes, there is.</answer>", "<answer>yes</answer>", {}),
        (ExactText(), "<answer>C C O</answer>", "<answer> C  C O</answer>", {}),
        (ExactText(ignore_case=True), "<answer>ab</answer>", "<answer>AB</answer>", {}),
        (RegionIoU(), "<answer>[1, 2, 3, 4]</answer>", "<answer>[1.0, 2, 3, 4.0]</answer>", {}),
        (lambda completion, sample: None, "<answer>Red</answer>", "red.", {}),
    ],
)
def test_equal_answers_have_equal_keys(verifier, one, other, changes):
    assert key(verifier, one, **changes) == key(verifier, other, **changes) != None  # noqa: E711


def test_keys_never_read_the_reference():
    texts = ["<answer>B</answer>", "<answer>A</answer>", "neither"]
    for text in texts:
        assert key(OptionLetter(), text, reference="A", **OPTIONS) == key(OptionLetter(), text, reference="zebra", **OPTIONS)


@pytest.mark.parametrize("text", ["<think>never closed…", "cut in the middle of…", "<answer>A</answer><answer>B</answer>", ""])
def test_text_without_one_answer_has_no_key(text):
    assert key(OptionLetter(), text, **OPTIONS) is None


def test_case_counts_for_exact_text():
    assert key(ExactText(), "<answer>Co</answer>") != key(ExactText(), "<answer>CO</answer>")


def test_pack_may_say_which_answers_are_equal():
    def judge(completion, sample):
        raise AssertionError("the verifier itself is not asked")

    judge.answer_key = lambda completion, sample: str(int(completion) % 10)
    assert key(judge, "13") == key(judge, "23") == "3"


def test_the_answer_verifier_of_a_task_is_found_beside_the_others():
    found = AnswerReader.of(pack())
    assert found.verifier_of(sample()) is scripted.VERIFIERS["closed"], "not `format`, which reads no answer"
    assert found.verifier_of(sample(task="free")) is None and found.shape_of(sample(task="free")).name == "think_answer"


@pytest.fixture(scope="module")
def pool():
    with VerifierPool("scripted:VERIFIERS", max_error_rate=1.0) as opened:
        yield opened


@pytest.mark.parametrize(("name", "sees"), [("closed", True), ("format", False), ("short", False), ("hidden", True)])
def test_verifiers_that_see_the_reference_are_found_out(pool, name, sees):
    assert sees_reference(pool, name, scripted.VERIFIERS[name], SAMPLES) is sees


def test_verifier_judge_takes_the_reference_away(pool):
    pairs = [(SAMPLES[0], "<answer>blue</answer>"), (SAMPLES[0], "<answer>red</answer>")]
    assert verifier_judge(pool, "closed", is_oracle=True)(pairs) == [1.0, 0.0]
    # Without a reference `closed` fails, and a failed verdict is no score.
    assert verifier_judge(pool, "closed", is_oracle=False)(pairs) == [None, None]
    assert verifier_judge(pool, "short", is_oracle=False)([(SAMPLES[0], "x")]) == [0.5]


@pytest.mark.parametrize(("objective", "scores"), [("bradley_terry", [1.0, -2.0]), ("cost", [-1.0, 2.0])])
def test_cost_models_are_turned_round(objective, scores):
    scorer = SimpleNamespace(settings=SimpleNamespace(objective=objective), score=lambda pairs: [1.0, -2.0])
    assert scorer_judge(scorer)([(SAMPLES[0], "a"), (SAMPLES[0], "b")]) == scores
