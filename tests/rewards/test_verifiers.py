"""Ready-made verifiers: the vectors of guides/domains.md 12, exploits, and faulty samples."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Message, Sample, Status
from factory.errors import ConfigError
from factory.rewards.verifiers import (
    ClosedAnswer,
    ExactText,
    FormatVerifier,
    OptionLetter,
    ReasoningLength,
    RegionIoU,
    YesNo,
)

OPTIONS = ["normal gland", "adenocarcinoma", "lymphoid tissue", "necrosis"]


def sample(reference="B", **meta) -> Sample:
    question = Message("user", "Which option fits this field?")
    return Sample(id="s", task="mcq", messages=(question,), reference=reference, meta={"options": OPTIONS} | meta)


def tagged(answer: str) -> str:
    return f"<think>a</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("completion", "accuracy", "form"),
    [
        ("<think>a</think><answer>B</answer>", 1, 1),
        ("<answer> b. adenocarcinoma </answer>", 1, 0),
        ("<answer>A</answer><answer>B</answer>", 0, 0),
        ("<think>a</think><answer>B</answer><answer>B</answer>", 0, 0),
        ("B", 0, 0),
        ("<think>a</think><answer>A</answer>", 0, 1),
        ("<think>the answer is B</think>", 0, 0),
        ("<think>a</think><answer>A, B, C, D</answer>", 0, 1),
        ("<think>a</think><answer>adenocarcinoma</answer>", 1, 1),
    ],
)
def test_pathology_vectors_in_strict_mode(completion, accuracy, form):
    assert OptionLetter()(completion, sample()).score == accuracy
    assert FormatVerifier()(completion, sample()).score == form


def test_a_bare_letter_is_parsed_in_lenient_mode_only():
    strict, lenient = OptionLetter(), OptionLetter(mode="lenient")
    assert strict("B", sample()).status is Status.unparsable
    assert lenient("B", sample()).status is Status.ok
    assert lenient("C", sample()).status is Status.wrong
    assert lenient("<think>it is B</think>", sample()).status is Status.unparsable


def test_two_answers_are_unparsable_not_wrong():
    for mode in ("strict", "lenient"):
        assert OptionLetter(mode=mode)("<answer>A</answer><answer>B</answer>", sample()).status is Status.unparsable


def test_the_reason_says_what_was_got_and_wanted():
    assert OptionLetter()(tagged("C"), sample()).reason == "got 'C', want 'B'"
    assert "want 'B'" in OptionLetter()("", sample()).reason


def test_options_may_be_a_mapping_and_the_gold_a_text():
    mapped = sample("necrosis", options=dict(zip("ABCD", OPTIONS, strict=True)))
    assert OptionLetter()(tagged("D"), mapped).score == 1.0


def test_gold_scores_one_and_every_other_option_zero():
    for gold in "ABCD":
        assert [OptionLetter()(tagged(letter), sample(gold)).score for letter in "ABCD"] == [float(x == gold) for x in "ABCD"]


@pytest.mark.parametrize("faulty", [sample("E"), sample(None), sample(options="ABCD"), sample(options=["one"])])
def test_a_faulty_sample_is_an_error_not_a_wrong_answer(faulty):
    with pytest.raises(ValueError):
        OptionLetter()(tagged("B"), faulty)


def test_closed_answer_uses_synonyms_and_no_substrings():
    verifier = ClosedAnswer(synonyms={"H&E": ["haematoxylin and eosin"]})
    gold = sample("H&E")
    assert verifier(tagged("Haematoxylin and eosin."), gold).score == 1.0
    assert verifier(tagged("H&E, IHC, PAS, Giemsa"), gold).status is Status.wrong
    assert verifier(tagged("..."), gold).status is Status.unparsable
    assert verifier(tagged("IHC"), sample(["PAS", "IHC"])).score == 1.0


def test_yes_no_vectors():
    # guides/domains.md 12, medicine.
    verifier = YesNo(mode="lenient")
    assert [verifier(text, sample("yes")).score for text in ("Yes, there is.", "yes and no", "certainly")] == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="neither yes nor no"):
        verifier("yes", sample("maybe"))


def test_exact_text_keeps_case_unless_told():
    assert ExactText()(tagged("CC  O"), sample("CC O")).score == 1.0
    assert ExactText()(tagged("cco"), sample("CCO")).score == 0.0
    assert ExactText(ignore_case=True)(tagged("cco"), sample("CCO")).score == 1.0


def test_region_iou_scores_the_overlap():
    verdict = RegionIoU()(tagged("[5, 0, 15, 10]"), sample([0, 0, 10, 10]))
    assert (verdict.score, verdict.status) == (pytest.approx(1 / 3), Status.wrong)
    assert RegionIoU(threshold=0.3, is_binary=True)(tagged("[5, 0, 15, 10]"), sample([0, 0, 10, 10])).score == 1.0
    assert RegionIoU()(tagged("[0,0,0,0]"), sample([0, 0, 10, 10])).status is Status.unparsable
    with pytest.raises(ValueError, match="box"):
        RegionIoU()(tagged("[0,0,1,1]"), sample([1, 1, 0, 0]))


def test_reasoning_length_follows_difficulty():
    verifier = ReasoningLength(windows={"easy": (2, 4), "hard": (8, 16)})
    four, ten = "a b c d", " ".join("abcdefghij")
    score = lambda text, difficulty: verifier(f"<think>{text}</think>", sample(difficulty=difficulty)).score  # noqa: E731
    assert score(four, "easy") == 1.0
    assert score(four, "hard") == 0.5  # 4 of 8 words
    assert score(ten, "hard") == 1.0
    assert score(ten, "easy") == 0.0  # 10 words are more than twice 4
    assert verifier("no thinking", sample(difficulty="easy")).status is Status.unparsable
    with pytest.raises(ValueError, match="difficulty"):
        verifier("<think>a</think>", sample())


def test_padding_the_reasoning_does_not_pay():
    verifier = ReasoningLength(windows={"hard": (100, 200)})
    honest = " ".join(f"w{i}" for i in range(150))
    assert verifier(f"<think>{honest}</think>", sample(difficulty="hard")).score == 1.0
    # 150 equal words: one distinct 4-gram of 147.
    assert verifier(f"<think>{'so ' * 150}</think>", sample(difficulty="hard")).score == pytest.approx(1 / 147)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptionLetter(mode="lax"), "want 'strict' or 'lenient'"),
        (lambda: FormatVerifier("think_anwser"), "Did you mean 'think_answer'"),
        (lambda: RegionIoU(threshold=0.0), "threshold is 0.0"),
        (lambda: ReasoningLength(windows={"easy": (5, 2)}), "fewest <= most"),
        (lambda: ReasoningLength(windows={}), "at least one window"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


_ALL = [
    (FormatVerifier(), sample()), (OptionLetter(), sample()), (OptionLetter(mode="lenient"), sample()),
    (ClosedAnswer(), sample("x")), (YesNo(mode="lenient"), sample("no")), (ExactText(), sample("x")),
    (RegionIoU(mode="lenient"), sample([0, 0, 1, 1])), (ReasoningLength(), sample(difficulty="easy")),
]  # fmt: skip


@given(st.text() | st.text().map(tagged) | st.text().map(lambda text: f"<think>{text}"))
@settings(max_examples=200, deadline=None)
def test_every_verifier_judges_any_text(completion):
    for verifier, question in _ALL:
        verdict = verifier(completion, question)
        assert 0.0 <= verdict.score <= 1.0
        assert verdict.reason
        assert not verdict.status.is_masked
        assert verifier(completion, question) == verdict
