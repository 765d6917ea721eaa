"""The pack's own verifiers beyond its fixtures: laws, faulty samples, and the one-label rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Sample, Status
from factory.domains.biology.answers import LabelAnswer, bare_label, read_protein, read_sequence
from factory.domains.biology.codes import three_letters
from factory.domains.biology.pack import PACK
from factory.errors import ConfigError

VERIFIERS = PACK.verifiers()


def form(answer):
    return f"<think>x</think><answer>{answer}</answer>"


@given(st.text("ACGTUN", min_size=1, max_size=50))
def test_a_sequence_reads_as_itself_however_it_is_set(text):
    for writing in (text, text.lower(), f"5'-{text}-3'", " ".join(text), f"5' {text} 3'", f"`{text}`"):
        assert read_sequence(writing) == text


@given(st.text("ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=30))
def test_a_protein_reads_as_itself_in_one_and_three_letters(text):
    assert read_protein(text) == text
    assert read_protein(three_letters(text)) == text
    assert read_protein("-".join(three_letters(letter) for letter in text)) == text


@given(st.text(max_size=40))
def test_any_answer_gets_a_verdict(text):
    samples = {
        "sequence": Sample("s", "transcribe", (), "AUG"), "protein": Sample("s", "translate", (), "MG"),
        "orf": Sample("s", "orf", (), {"start": 1, "end": 9}, meta={"sequence": "ATGGGTTAA"}),
        "numbers": Sample("s", "restriction", (), [3, 8]), "hgvs": Sample("s", "hgvs_c", (), "c.5G>T"),
        "label": Sample("s", "effect", (), "missense", meta={"labels": ["missense", "nonsense"]}),
    }  # fmt: skip
    for name, sample in samples.items():
        for completion in (text, form(text)):
            assert not VERIFIERS[name](completion, sample).status.is_masked


@pytest.mark.parametrize(
    ("name", "task", "reference", "meta", "reason"),
    [
        ("sequence", "transcribe", "no bases!", {}, "is no sequence"),
        ("protein", "translate", "M1", {}, "is no protein"),
        ("protein", "translate", "MV", {"sequence": "ATGGGT"}, "codes for MG"),
        ("orf", "orf", {"start": 1, "end": 9}, {"sequence": "CCC"}, "no open reading frame"),
        ("orf", "orf", {"start": 1, "end": 6}, {"sequence": "ATGGGTTAA"}, "is no longest open reading frame"),
        ("numbers", "restriction", [3.5], {}, "no list of whole numbers"),
        ("numbers", "restriction", [], {}, "no list of whole numbers"),
        ("hgvs", "hgvs_c", "five", {}, "not an HGVS description"),
        ("label", "effect", "", {}, "non-empty"),
    ],
)
def test_a_faulty_sample_is_an_error_and_never_a_wrong_answer(name, task, reference, meta, reason):
    if name == "hgvs":
        pytest.importorskip("mutalyzer_hgvs_parser")
    for completion in (form("x"), ""):
        with pytest.raises(ValueError, match=reason):
            VERIFIERS[name](completion, Sample("s", task, (), reference, meta=meta))


def test_ties_of_reading_frames_all_count(ask):
    sample = ask("orf", {"start": 1, "end": 9, "strand": "+"}, sequence="ATGGGTTAAATGCCCTAA")
    assert VERIFIERS["orf"](form("1..9"), sample).score == 1.0
    assert VERIFIERS["orf"](form("10..18"), sample).score == 1.0


def test_fragments_count_as_often_as_they_occur(ask):
    sample = ask("restriction", [4, 4, 7])
    assert VERIFIERS["numbers"](form("7, 4, 4"), sample).score == 1.0
    assert VERIFIERS["numbers"](form("7, 4"), sample).score == 0.0
    assert VERIFIERS["numbers"](form("[4, 4, 7]"), sample).score == 1.0


LABELS = ["in-frame", "missense", "nonsense", "stop lost", "synonymous"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("missense", 1.0), ("Missense variant", 1.0), ("Answer: missense", 1.0), ("missense (Gly to Val)", 1.0),
        ("this is missense", 0.2), ("a missense_variant here", 0.2),
        ("nonsense", 0.0), ("missense or nonsense", 0.0), ("not missense", 0.0), ("missense, nonsense", 0.0),
        ("missense stop gained", 0.0),  # an alias of nonsense
        ("missense " + "so " * 40, 0.0), ("misense", 0.0),
    ],
)  # fmt: skip
def test_the_one_label_rule(ask, answer, score):
    assert VERIFIERS["label"](form(answer), ask("effect", "missense", labels=LABELS)).score == score


def test_without_known_labels_there_is_no_partial_credit(ask):
    assert VERIFIERS["label"](form("this is missense"), ask("effect", "missense")).score == 0.0


def test_partial_credit_stays_below_the_gate():
    with pytest.raises(ConfigError, match=r"below 0\.5"):
        LabelAnswer(name="label", partial=0.5)


def test_bare_label():
    assert bare_label("The final answer is: Cushing syndrome (ACTH).") == "cushing syndrome"


def test_several_right_diseases(ask):
    sample = ask("variant_disease", ["pathogenic; a b", "pathogenic; c"], form="think_line")
    text = "<think>\nx\n</think>\n\nAnswer: {}"
    assert VERIFIERS["label"](text.format("Pathogenic; C"), sample).score == 1.0
    assert VERIFIERS["label"](text.format("pathogenic"), sample).score == 0.0


def test_the_sample_s_form_decides_what_is_read(ask):
    line, tags = "<think>\nx\n</think>\n\nAnswer: missense", form("missense")
    assert VERIFIERS["label"](line, ask("effect", "missense", form="think_line")).score == 1.0
    assert VERIFIERS["label"](tags, ask("effect", "missense", form="think_line")).score == 0.0
    assert VERIFIERS["label"](line, ask("effect", "missense")).score == 0.0
    assert VERIFIERS["label"]("<answer>missense</answer>", ask("effect", "missense", thinking="off")).score == 1.0
    assert VERIFIERS["format"](tags, ask("effect", "missense", thinking="off")).score == 0.0


def test_accuracy_reads_bare_answers_and_pays_only_full_marks(ask):
    accuracy = VERIFIERS["accuracy"]
    assert accuracy("the answer is missense", ask("effect", "missense")).score == 1.0
    partial = accuracy(form("this is missense"), ask("effect", "missense", labels=LABELS))
    assert (partial.score, partial.status) == (0.0, Status.wrong)
    with pytest.raises(ValueError, match="'accuracy' knows"):
        accuracy("x", ask("poetry", "x"))
