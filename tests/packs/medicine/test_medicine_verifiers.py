"""Verifiers: published rules by golden rows, and what the pack's own rules must refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import DataRequest, Message, Sample, Status
from factory.domains.medicine import PACK
from factory.domains.medicine.calculators import CALCULATORS
from factory.domains.medicine.codes import code_score, depth_of, levels, read_code
from factory.domains.medicine.evals import by_answer_type
from factory.domains.medicine.published import RULES, Tally
from factory.domains.medicine.reports import read_sections

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
VERIFIERS = PACK.verifiers()


def ask(task: str, reference, **meta) -> Sample:
    return Sample("q", task, (Message("user", "q ?"),), reference, (), meta)


def said(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['rule']}-{row['variant']}-{row['why']}"[:80])
def test_published_rule(row):
    rule = RULES[row["rule"]]
    function = rule.right if row["variant"] == "right" else rule.faults[row["variant"]]
    found = function(*row["args"])
    assert found == (pytest.approx(row["want"], abs=1e-6) if isinstance(row["want"], dict | float) else row["want"]), row["why"]


def test_every_rule_and_every_fault_has_a_golden_row_and_faults_differ_from_the_right_rule():
    assert {row["rule"] for row in GOLDEN} == set(RULES)
    for name, rule in RULES.items():
        for fault, function in rule.faults.items():
            rows = [row for row in GOLDEN if row["rule"] == name and row["variant"] == fault]
            assert rows, f"{name}: {fault}"
            assert any(function(*row["args"]) != rule.right(*row["args"]) for row in rows)


def test_a_total_can_be_rebuilt_from_its_parts():
    # MedEvalKit issue #21: 128 of 200 open, 199 of 251 closed; 327 / 451
    tally = Tally()
    for kind, right, total in (("OPEN", 128, 200), ("CLOSED", 199, 251)):
        for index in range(total):
            tally.add(kind, float(index < right))
    tally.add("OPEN", None)
    assert tally.rows() == [("CLOSED", 199.0, 251, 0), ("OPEN", 128.0, 200, 1)]
    assert tally.overall() == pytest.approx(327 / 451)


@pytest.mark.parametrize(
    ("got", "want", "depth", "score"),
    [
        ("E1165", "E1165", 3, 1.0),
        ("E119", "E1165", 3, 1 / 3),  # E11 agrees, E119 is not E116
        ("E116", "E1165", 3, 2 / 3),
        ("I10", "E1165", 3, 0.0),
        ("E119", "E1165", 1, 1.0),  # to the category
        ("E11651", "E1165", 3, 2 / 3),  # a child of the right code says more than the record
        ("I109", "I10", 1, 0.0),
    ],
)
def test_codes_agree_by_level(got, want, depth, score):
    assert code_score(got, want, depth) == pytest.approx(score)


@given(st.from_regex(r"[A-Z][0-9]{2}([0-9A-Z]{1,4})?", fullmatch=True))
def test_a_code_agrees_with_itself_at_every_depth(code):
    assert read_code(code.lower()) == code
    for depth in range(1, len(levels(code)) + 1):
        assert code_score(code, code, depth) == 1.0


@pytest.mark.parametrize("wanted", ["deep", 0, True, -1])
def test_an_unknown_depth_is_a_faulty_sample(wanted):
    with pytest.raises(ValueError, match="code_depth"):
        depth_of(wanted, "I10")


def test_codes_outside_the_users_table_are_wrong():
    sample = ask("code", "E1165", codes=["E1165", "E119"], code_depth="full")
    assert VERIFIERS["code"](said("E11.9"), sample).score == pytest.approx(1 / 3)
    assert "does not have" in VERIFIERS["code"](said("E11.64"), sample).reason


@pytest.mark.parametrize(
    ("answer", "score"),
    [("24 mEq/L", 1.0), ("24", 1.0), ("0.024 Eq/L", 1.0), ("25 mEq/L", 0.0), ("24 mg/dL", 0.0), ("24 or 25", 0.0)],
)
def test_numbers_with_units(answer, score):
    sample = ask("calculator", {"value": 24.0, "unit": "mEq/L"})
    assert VERIFIERS["number"](said(answer), sample).score == score


def test_units_per_body_surface_are_read():
    sample = ask("calculator", "69 mL/min/1.73 m^2")
    for answer in ("69 mL/min/1.73 m^2", "69 mL/min/1.73m2", "69", "0.069 L/min/1.73 m^2"):
        assert VERIFIERS["number"](said(answer), sample).score == 1.0, answer


@pytest.mark.parametrize("name", CALCULATORS)
def test_every_calculators_answer_is_read_with_its_unit(name):
    [lesson] = PACK.lessons(
        "train", 0, DataRequest(limit=1, options={"shares": {"calculator": 1}, "style": "full", "calculators": [name]})
    )
    assert VERIFIERS["number"](lesson.response, lesson.sample).score == 1.0


def test_forms_are_chosen_by_the_sample():
    headings = "## Thinking\n\nbecause\n\n## Final Response\n\nleft"
    assert VERIFIERS["closed"](headings, ask("closed", "left", form="huatuo")).score == 1.0
    assert VERIFIERS["closed"](headings, ask("closed", "left")).status is Status.unparsable
    assert VERIFIERS["format"](said("left"), ask("closed", "left", form="answer")).score == 0.0
    with pytest.raises(ValueError, match="form"):
        VERIFIERS["closed"](said("left"), ask("closed", "left", form="tagged"))


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("## Thinking\n\na\n\n## Final Response\n\nleft", 1.0),
        ("## Thinking\n\na\n\n## Final Response\n\nright", 0.1),
        ("## Thinking\n\na\n\n## Final Response\n\nleft\n\n## Final Response\n\nleft", 0.0),
        ("left", 0.0),
    ],
)
def test_huatuo_reward_end_to_end(completion, score):
    assert VERIFIERS["huatuo"](completion, ask("closed", "left", form="huatuo")).score == pytest.approx(score)


def test_open_answers_that_list_everything_earn_nothing():
    sample = ask("open", "left masses")
    assert VERIFIERS["open"](said("left masses, right nodule, clear"), sample).score == 0.0
    # P 3/4, R 1, F1 2*3/(4+3)
    assert VERIFIERS["open"](said("large right lung mass"), ask("open", "right lung mass")).score == pytest.approx(6 / 7)


def test_sections_of_a_report():
    assert read_sections("Findings: a, b.\n\nImpression: c.") == {"findings": "a, b.", "impression": "c."}
    for text in (
        "Impression: c. Findings: a.",
        "Findings: a.",
        "Findings: a. Findings: b. Impression: c.",
        "Findings: Impression: c.",
    ):
        with pytest.raises(ValueError, match=r"Findings|findings"):
            read_sections(text)


def test_real_reports_are_compared_by_rouge():
    reference = {"findings": "the lungs are clear", "impression": "no acute disease"}
    verdict = VERIFIERS["report"](said("Findings: the lungs are clear. Impression: no acute disease."), ask("report", reference))
    assert verdict.score == pytest.approx(1.0)
    # findings: 3 of 4 words, 2 of 3 pairs, longest common 3: (0.75 + 2/3 + 0.75) / 3; impression: nothing
    half = VERIFIERS["report"](said("Findings: the lungs are hyperinflated. Impression: pneumonia."), ask("report", reference))
    assert half.score == pytest.approx((0.75 + 2 / 3 + 0.75) / 3 / 2)


@pytest.mark.parametrize("name", ["letter", "closed", "number", "entities", "open", "report", "code", "judgement"])
def test_a_faulty_reference_raises_and_is_never_scored(name):
    with pytest.raises(ValueError, match=r"."):
        VERIFIERS[name](said("left"), ask("closed", None))


def test_accuracy_counts_whole_answers_only():
    sample = ask("entities", ["mass", "effusion"])
    assert VERIFIERS["entities"](said("mass"), sample).score == pytest.approx(2 / 3)
    assert VERIFIERS["accuracy"](said("mass"), sample).score == 0.0


def test_medevalkit_reads_behind_the_reasoning():
    sample = ask("judgement", "yes")
    assert VERIFIERS["medevalkit"]("<think>no no no</think>Yes.", sample).score == 1.0
    with pytest.raises(ValueError, match="MedEvalKit's rules"):
        VERIFIERS["medevalkit"](said("x"), ask("ecg", "normal"))


def test_figures_per_answer_type_rebuild_the_total():
    rows = {
        "1": (ask("judgement", "yes"), "Yes."),
        "2": (ask("closed", "flair"), "t2"),
        "3": (ask("open", "upper lobe"), "right upper lobe mass"),
        "4": (ask("choice", "B", options={"A": "x", "B": "y"}), "B"),
        "5": (ask("ecg", "normal"), "normal"),  # no rule of MedEvalKit
    }
    samples = [replace(sample, id=key) for key, (sample, _) in rows.items()]
    figures = by_answer_type(samples, {key: text for key, (_, text) in rows.items()})
    assert (figures["closed/right"], figures["closed/n"], figures["closed/accuracy"]) == (1.0, 2.0, 0.5)
    assert (figures["open/right"], figures["open/n"], figures["choice/right"]) == (0.0, 1.0, 1.0)
    assert figures["open/f1"] == pytest.approx(2 / 3)  # 2 of 4 words, 2 of 2
    assert figures["accuracy"] == pytest.approx(2 / 4)
    assert by_answer_type(samples, {}) == {}
