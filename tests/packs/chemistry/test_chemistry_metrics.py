"""Benchmark figures against small tables worked out by hand."""

import json
import math

import pytest

from factory.domains.chemistry import metrics as m


def test_counts():
    """Errors of the answered: 0, 1, 2; right 1 of 4."""
    assert m.count_figures([2, 3, 5, None], [2, 2, 3, 1]) == {"n": 4, "answered": 0.75, "accuracy": 0.25, "mae": 1.0}


def test_winsorised_sets_the_tails_to_the_quantiles():
    """0..20: the 5 % quantile is 1, the 95 % quantile 19."""
    assert m.winsorised(list(map(float, range(21)))) == [1.0, *map(float, range(1, 20)), 19.0]
    assert m.winsorised([]) == [] and m.winsorised([3.0]) == [3.0]


def test_improvement_success_and_best_rates():
    """CCO -> CCCO: logP -0.0014 -> 0.3887 (+0.39); CCO -> CCCCO +0.78; CCO -> OCCO -1.03; nothing."""
    found = m.improvement_figures(["CCO"] * 4, ["CCCO", "CCCCO", "OCCO", None], "logp")
    assert found["validity"] == 0.75 and found["success_rate"] == 0.5 and found["best_rate"] == 0.25
    assert found["scaffold_hard"] == 0.75  # all without rings
    ring = m.improvement_figures(["Cc1ccccc1", "Cc1ccccc1"], ["Clc1ccccc1", "CC1CCCCC1"], "logp")
    assert ring["scaffold_hard"] == 0.5 and 0.5 <= ring["scaffold_soft"] < 1.0


def test_edits_by_the_published_rule():
    found = m.edit_figures(["CCN", "CC(O)C", "CCO"], ["OCCN", "CCC", None], ["hydroxyl", "", "amine"], ["", "hydroxyl", ""])
    assert found == {"n": 3, "validity": pytest.approx(2 / 3), "accuracy": pytest.approx(2 / 3)}


def test_scaffolds_hard_and_soft():
    found = m.scaffold_figures(["c1ccccc1", "c1ccncc1", "no"], ["c1ccccc1"] * 3)
    assert found["exact"] == pytest.approx(1 / 3) and found["generic"] == pytest.approx(2 / 3)


def test_tomg_weighted_accuracy():
    """Two of four right; likeness of the valid ones to their starts: 1 and that of CCO to CCN."""
    found = m.tomg_figures([True, True, False, False], ["CCO", "CCN", "C1", None], starts=["CCO"] * 4)
    assert found["accuracy"] == 0.5 and found["validity"] == 0.5
    assert found["weighted_accuracy"] == pytest.approx(0.5 * found["similarity"]) and found["similarity"] < 1
    fresh = m.tomg_figures([True], ["CCO"], corpus=["CCO"])
    assert fresh["novelty"] == 0.0 and m.tomg_figures([True], ["CCO"])["weighted_accuracy"] == 1.0


def test_smolinstruct_figures():
    found = m.smiles_figures(["OCC", "CCN", "C1", "CC;O"], ["CCO", "CCO", "CCO", "O.CC"])
    assert found["exact"] == 0.5 and found["validity"] == 0.75 and set(found) >= {"maccs", "rdk", "morgan"}
    assert m.formula_figures(["H6C2O", "C2H6", None], ["C2H6O"] * 3)["element_match"] == pytest.approx(1 / 3)
    names = m.name_figures(["b;a", "a", None], ["a;b", "a", "a"])
    assert names["exact"] == pytest.approx(1 / 3) and names["split_match"] == pytest.approx(2 / 3)


def test_regression_counts_silence():
    """Errors 1 and -3: MAE 2, RMSE sqrt(5)."""
    found = m.regression_figures([2.0, 1.0, None], [1.0, 4.0, 0.0])
    assert found == {"n": 3, "answered": pytest.approx(2 / 3), "mae": 2.0, "rmse": pytest.approx(math.sqrt(5))}
    assert math.isnan(m.regression_figures([None], [1.0])["rmse"])


def test_auroc_against_scikit_learn():
    from sklearn import metrics as sklearn

    scores, labels = [0.1, 0.4, 0.4, 0.35, 0.8, 0.4], [False, False, True, True, True, False]
    assert m.auroc(scores, labels) == pytest.approx(sklearn.roc_auc_score(labels, scores))
    assert m.auroc([1, 2], [False, True]) == 1.0 and m.auroc([1, 1], [False, True]) == 0.5 and math.isnan(m.auroc([1], [True]))


def test_classes_have_the_majority_beside_them():
    found = m.class_figures([True, False, None, True], [True, False, False, False])
    assert found["accuracy"] == 0.5 and found["majority"] == 0.75 and found["f1"] == pytest.approx(2 / 3)


def test_sets_of_molecules():
    found = m.set_figures(["CCO", "OCC", "CCN", "x"], corpus=["CCO"])
    assert found["validity"] == 0.75 and found["uniqueness"] == pytest.approx(2 / 3) and found["novelty"] == pytest.approx(1 / 3)
    assert 0 < found["diversity"] < 1


def test_report_of_an_evals_file(tmp_path, capsys):
    rows = [
        {"task": "count", "completion": "<think>x</think><answer>2</answer>", "reference": 2},
        {"task": "formula", "completion": "C2H6O", "reference": "C2H6O"},
        {"task": "optimise", "completion": "<answer>CCCO</answer>", "reference": {"start": "CCO", "property": "logp", "direction": "up"}},
        {"task": "add", "completion": "<answer>OCCN</answer>", "reference": {"start": "CCN", "add": "hydroxyl"}},
        {"task": "same", "completion": "<answer>yes</answer>", "reference": "yes"}, {"task": "compose", "completion": "CCO", "reference": {}},
        {"task": "forward", "completion": "CCO", "reference": "OCC"}, {"task": "scaffold", "completion": "C1CC1", "reference": "C1CC1"},
        {"task": "value", "completion": "<answer>1.5</answer>", "reference": 1.0}, {"task": "route", "completion": "x", "reference": {}},
    ]  # fmt: skip
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert m.main([str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["count"]["accuracy"]
        == found["formula"]["element_match"]
        == found["forward"]["exact"]
        == found["add"]["accuracy"]
        == 1.0
    )
    assert found["optimise"]["logp/success_rate"] == 1.0 and found["value"]["mae"] == 0.5 and "route" not in found
