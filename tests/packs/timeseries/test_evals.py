"""Baselines against independent references, macro-F1 by hand, and the table of the `classes` probe."""

from __future__ import annotations

import math

import numpy as np
import pytest

from factory.contracts import DataRequest
from factory.domains.timeseries import PACK, baselines
from factory.domains.timeseries.baselines import accuracy, distances, guesses_of_all, macro_f1, majority, nearest, stacked
from factory.domains.timeseries.evals import classes, macro_f1_by_task, named_word, perception


def test_macro_f1_by_hand() -> None:
    # a: 2 hits, 3 true, 3 guessed -> 4/6; b: 1 hit, 2 true, 2 guessed -> 2/4; x is a guess outside: simply wrong
    truth, guesses = ["a", "a", "a", "b", "b"], ["a", "a", "b", "a", "b"]
    assert macro_f1(truth, guesses) == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert macro_f1(["a", "b"], ["x", "b"]) == pytest.approx((0.0 + 1.0) / 2)
    assert macro_f1(["a", "b"], ["a", "b"]) == 1.0 and accuracy(truth, guesses) == 0.6
    from sklearn.metrics import f1_score

    assert macro_f1(truth, guesses) == pytest.approx(f1_score(truth, guesses, average="macro"))


def test_majority_breaks_ties_by_the_alphabet() -> None:
    assert majority(["b", "a", "b", "a", "c"], 2) == ["a", "a"]


def slow_dtw(a: np.ndarray, b: np.ndarray) -> float:
    """Squared-difference DTW in plain loops, with a band of a tenth; channels are summed."""
    n, m = a.shape[1], b.shape[1]
    band = baselines.DTW_WINDOW * max(n, m)
    cost = [[math.inf] * (m + 1) for _ in range(n + 1)]
    cost[0][0] = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            if abs(i - j) <= band:
                gap = float(((a[:, i - 1] - b[:, j - 1]) ** 2).sum())
                cost[i][j] = gap + min(cost[i - 1][j], cost[i][j - 1], cost[i - 1][j - 1])
    return cost[n][m]


def test_distances_agree_with_plain_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 2, 20)), rng.standard_normal((4, 2, 20))
    want = [[math.dist(x.ravel(), y.ravel()) for y in b] for x in a]
    if baselines.has_aeon():
        np.testing.assert_allclose(distances(a, b, "dtw"), [[slow_dtw(x, y) for y in b] for x in a], rtol=1e-9)
        np.testing.assert_allclose(distances(a, b, "euclidean"), want, rtol=1e-9)
    monkeypatch.setattr(baselines, "has_aeon", lambda: False)
    np.testing.assert_allclose(distances(a, b, "euclidean"), want, rtol=1e-12)
    assert nearest(a, a, ["x", "y", "z"], "euclidean") == ["x", "y", "z"]


def test_series_of_any_length_are_stacked() -> None:
    rows = [np.arange(n, dtype=float)[None] for n in (5, 9, 7)]
    assert stacked(rows).shape == (3, 1, 7)
    gap = np.array([[0.0, np.nan, 2.0]])
    np.testing.assert_array_equal(stacked([gap])[0, 0], [0, 1, 2])


def test_baselines_learn_what_is_easy() -> None:
    rng = np.random.default_rng(1)
    make = lambda k: (np.sin(np.arange(60) / (3 if k else 9)) + 0.1 * rng.standard_normal(60))[None]  # noqa: E731
    train, labels = [make(k % 2) for k in range(20)], ["slow", "fast"] * 10
    test, truth = [make(k % 2) for k in range(20)], ["slow", "fast"] * 10
    found = guesses_of_all(test, train, labels, 0)
    assert accuracy(truth, found["majority"]) == 0.5 and accuracy(truth, found["1nn_ed"]) == 1.0
    if baselines.has_aeon():
        assert accuracy(truth, found["1nn_dtw"]) == 1.0 and accuracy(truth, found["rocket"]) == 1.0


class View:
    """A model that answers by a rule; it needs no weights."""

    def __init__(self, request: DataRequest, answers: dict[str, str], best: str = "") -> None:
        self.request, self.answers, self.best = request, answers, best

    def continuation_logprobs(self, prompts, continuations) -> np.ndarray:
        return np.array([float(text.strip() == self.best) for text in continuations], dtype=np.float32)


def test_the_table_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "has_aeon", lambda: False)
    monkeypatch.setattr("factory.domains.timeseries.evals.TRAINING_SERIES", 120)
    request = DataRequest(limit=120)
    samples = list(PACK.samples("test", 0, request))
    right = {sample.id: PACK.gold(sample) for sample in samples}
    figures = classes(View(request, right), "test", 0)
    assert figures["mean/model/accuracy"] == figures["mean/model/macro_f1"] == 1.0
    assert {key.split("/")[0] for key in figures} == {"emg", "ecg", "har", "ctu", "tee", "rcw", "mean"}
    assert 0.1 < figures["mean/majority/accuracy"] < 0.45 < figures["mean/1nn_ed/accuracy"]
    silent = classes(View(request, dict.fromkeys(right, "")), "test", 0)
    assert silent["mean/model/accuracy"] == 0.0 and silent["mean/majority/accuracy"] == figures["mean/majority/accuracy"]
    assert classes(View(DataRequest(limit=10, options={"shares": {"count": 1.0}}), {}), "test", 0) == {}


def test_the_table_reads_the_users_series(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "has_aeon", lambda: False)
    request = DataRequest(paths=(str(data / "aeon/GunPoint"),), options={"augment": 2})
    samples = list(PACK.samples("test", 0, request))
    figures = classes(View(request, {s.id: "<think>x</think><answer>1</answer>" for s in samples}), "test", 0)
    assert figures["GunPoint/model/accuracy"] == pytest.approx(76 / 150)
    # The published 1-NN ED error of GunPoint is .0867; without the five validation series it moves by a series or two.
    assert figures["GunPoint/1nn_ed/accuracy"] == pytest.approx(0.9133, abs=0.03)


def test_the_class_that_a_completion_names() -> None:
    sample = next(s for s in PACK.samples("test", 0, DataRequest(limit=40)) if s.task == "classify")
    assert named_word("<think>x</think><answer> Healthy. </answer>", sample) == "healthy"
    assert named_word("", sample) == ""


def test_macro_f1_of_each_closed_task() -> None:
    request = DataRequest(limit=150)
    samples = list(PACK.samples("test", 0, request))
    right = {sample.id: PACK.gold(sample) for sample in samples}
    assert macro_f1_by_task(View(request, right), "test", 0) == dict.fromkeys(("classify", "feature", "forecast", "compare"), 1.0)
    # always red: with r reds among n the F1 of red is 2 r / (n + r), that of blue 0
    compared = [sample.reference for sample in samples if sample.task == "compare"]
    reds = compared.count("red")
    always = macro_f1_by_task(View(request, dict.fromkeys(right, "<think>x</think><answer>red</answer>")), "test", 0)
    assert always["compare"] == pytest.approx(reds / (len(compared) + reds)) and always["forecast"] == 0.0


def test_perception_names_by_likelihood() -> None:
    chance = perception(View(DataRequest(), {}, best="nothing"), "test", 0)
    assert set(chance) == {"emg", "ecg", "har", "ctu", "tee", "rcw", "mean"} and 0.1 < chance["mean"] < 0.7
    some = perception(View(DataRequest(), {}, best="slow"), "test", 0)
    assert some["tee"] != chance["tee"]
