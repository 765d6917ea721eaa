"""The pack's verifiers: traps of the guide by name, agreement of strict and lenient, and Hypothesis on any text."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import DataRequest, Status
from factory.domains.chemistry.reading import extract, field_of
from factory.domains.chemistry.verifiers import build_verifiers
from factory.errors import PluginError
from factory.plugins import load_pack
from factory.rewards.mixture import Mixture

PACK = load_pack("chemistry")
V = PACK.verifiers()
MIXTURE = Mixture(PACK.manifest.tasks, known=V)
SAMPLES = list(PACK.samples("test", 1, DataRequest(limit=90)))
PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "CCO", "c1ccccc1", "C(", ".", "2", " or ", "C2H6O", "->", " + ", "O2", "yes", "no", "\n", "\x00",
     "*", "é", "{", '{"output":', "}"]
)  # fmt: skip
TEXT = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))


def reward(completion, sample):
    names = MIXTURE.verifiers_for(sample.task)
    return MIXTURE.combine(sample.task, {name: V[name](completion, sample) for name in names})


@given(text=TEXT, sample=st.sampled_from(SAMPLES))
@settings(max_examples=250, deadline=None)
def test_any_text_gets_a_bounded_verdict_with_a_reason(text, sample):
    for name in (*MIXTURE.verifiers_for(sample.task), "accuracy", "validity"):
        verdict = V[name](text, sample)
        assert 0.0 <= verdict.score <= 1.0 and verdict.reason and not verdict.status.is_masked
        assert verdict == V[name](text, sample)


@pytest.mark.parametrize("sample", SAMPLES[:60], ids=lambda sample: sample.task)
def test_gold_earns_everything_and_the_four_traps_of_the_issue_nothing(sample, tagged):
    gold = PACK.gold(sample)
    assert reward(gold, sample).value == pytest.approx(1.0) and V["accuracy"](gold, sample).score == 1.0
    answer = extract(gold, "think_answer")
    for trap in (
        "",
        "CCO the answer",
        ", ".join(["CCO", "CCN", answer, "CC"]),
        f"{answer} the answer",
        "*",
        "." * 50,
        "C" * 5000,
    ):
        earned = reward(tagged(trap), sample).value
        assert earned <= 0.1 / 1.1 + 1e-9, (trap[:40], earned)


def test_ethanol_alone_is_paid_only_where_it_is_the_answer(tagged):
    paid = [sample for sample in SAMPLES if reward(tagged("CCO"), sample).value > 0.5]
    assert all(V["accuracy"](tagged("CCO"), sample).score >= 0.5 for sample in paid)
    assert len(paid) <= len(SAMPLES) * 0.1


def test_raising_logp_of_ethanol_by_ethylene_glycol_fails(sample, tagged):
    """TOMG-Bench's README example is wrong: glycol's logP is lower."""
    asked = sample("optimise", {"start": "CCO", "property": "logp", "direction": "up", "delta": 0.0, "similarity": 0.0})
    assert V["property"](tagged("OCCO"), asked).score == 0.0
    assert V["property"](tagged("CCCO"), asked).score == 1.0


def test_products_compare_by_their_largest_fragment(sample, tagged):
    product = sample("forward", "CC(=O)Nc1ccccc1", rule="largest")
    assert V["molecule"](tagged("O=C(C)Nc1ccccc1.Cl"), product).score == 1.0
    assert V["molecule"](tagged("OCC"), sample("forward", "CCO", rule="largest")).score == 1.0


@pytest.mark.parametrize(
    ("level", "answer", "score"),
    [("exact_isomeric", "Oc1ccccn1", 0), ("tautomer", "Oc1ccccn1", 1), ("inchikey_block1", "Oc1ccccn1", 1)],
)
def test_the_sample_names_the_level_of_equality(level, answer, score, sample, tagged):
    verdict = V["molecule"](tagged(answer), sample("molecule", "O=c1cccc[nH]1", level=level))
    assert verdict.score == score and f"({level})" in verdict.reason


@pytest.mark.parametrize(
    ("shape", "completion"),
    [
        ("think_answer", "<think>x</think><answer>CCO</answer>"), ("answer", "<answer>OCC</answer>"), ("json", 'So {"output": "CCO"}'),
        ("json", '```json\n{"Final Target Molecule": "CCO"}\n```'), ("smolinstruct", "<SMILES> CCO </SMILES>"), ("boxed", "\\boxed{CCO}"),
        ("ether0", "<|think_start|>x<|think_end|><|answer_start|>CCO<|answer_end|>"), ("think_line", "<think>x</think>\nAnswer: CCO"),
    ],
)  # fmt: skip
def test_every_output_shape_is_read(shape, completion, sample):
    one = sample("molecule", "CCO", shape=shape)
    assert V["molecule"](completion, one).score == 1.0 and V["accuracy"](completion, one).score == 1.0
    assert V["format"](completion, one).score == 1.0
    assert V["molecule"](completion.replace("CC", "CN"), one).score == 0.0


def test_json_fields():
    assert (
        field_of('{"count": 2}') == "2"
        and field_of('{"x": 1, "output": ["CCO"]}') == "CCO"
        and field_of('{"a": "b"}', "a") == "b"
    )
    for text in ('{"other": 1}', '{"output": true}', '{"output": ["a", "b"]}', '{"output": {}}', "[1]"):
        with pytest.raises(ValueError, match=r"."):
            field_of(text)


def test_counts_read_json_without_quotes(sample, tagged):
    assert V["number"](tagged("{count:1}"), sample("count", 1)).score == 1.0
    assert V["number"](tagged("{count:2}"), sample("count", 1)).status is Status.wrong
    assert V["number"](tagged("{count:1, count:2}"), sample("count", 1)).score == 0.0


def test_the_published_edit_rule_pays_for_unrelated_molecules_and_ours_does_not(sample, tagged):
    asked = sample("add", {"start": "CCN", "add": "hydroxyl"})
    unrelated = tagged("OCCCCCCCc1ccccc1")
    assert V["edit_counts"](unrelated, asked).score == 1.0 and V["edit"](unrelated, asked).score == 0.0


@pytest.mark.parametrize(
    ("verifier", "task", "reference"),
    [
        ("molecule", "molecule", "C1CC"), ("formula", "formula", "Xx"), ("edit", "add", {"start": "CCO"}), ("edit", "add", {"start": "CCO", "add": "thing"}),
        ("compose", "compose", {}), ("compose", "compose", {"colour": 1}), ("compose", "compose", {"groups": {"thing": 1}}), ("property", "optimise", "CCO"),
        ("property", "optimise", {"start": "CCO", "property": "logp", "direction": "sideways"}), ("equation", "balance", "H2 -> O2"),
        ("retro", "retro", {"product": "C1CC"}), ("route", "route", {}), ("conditions", "conditions", []), ("ether0", "ether0", {"function": "f", "info": 1}),
        ("accuracy", "unheard", 1), ("number", "count", "two"),
    ],
)  # fmt: skip
def test_faulty_samples_are_errors_never_wrong_answers(verifier, task, reference, sample, tagged):
    with pytest.raises(ValueError, match=r"."):
        V[verifier](tagged("CCO"), sample(task, reference))


def test_a_task_needs_exactly_one_answer_verifier():
    with pytest.raises(PluginError, match="exactly one"):
        build_verifiers({"x": {"verifiers": {"molecule": 1.0, "formula": 1.0}}})


def test_conditions_list_everything_and_lose_precision(sample, tagged):
    asked = sample("conditions", ["HATU", "DIPEA", "DMF"])
    assert V["conditions"](tagged("dmf; hatu; DIPEA"), asked).score == 1.0
    assert V["conditions"](tagged("HATU"), asked).score == pytest.approx(0.5)  # precision 1, recall 1/3: F1 2/4
    many = tagged(", ".join(["HATU", "DIPEA", "DMF", *(f"reagent{i}" for i in range(27))]))
    assert V["conditions"](many, asked).score == pytest.approx(6 / 33)


def test_a_route_that_misses_the_target_earns_less_than_the_gate(sample, tagged):
    asked = sample("route", {"target": "CCC(=O)NCC1CC1", "stock": ["CCC(=O)OC", "NCC1CC1"]})
    partial = V["route"](tagged("CCC(=O)OC>>CCC(=O)O\nCCC(=O)Cl.NCC1CC1>>CCC(=O)NCC1CC1"), asked)
    assert 0.0 < partial.score < 0.5 and partial.parts["right_steps"] == 1.0


def test_verifiers_survive_transport():
    import pickle

    sample = SAMPLES[0]
    for name, verifier in pickle.loads(pickle.dumps(dict(V))).items():
        assert verifier.name == name and verifier.version
    moved = replace(sample, meta=json.loads(json.dumps(dict(sample.meta))))
    assert V["accuracy"](PACK.gold(sample), moved).score == 1.0
