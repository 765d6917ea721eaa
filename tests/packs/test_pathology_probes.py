"""Probes: their figures by hand, and that they find what a model knows and do not find what it does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Media
from factory.domains.pathology.evals import RETRIEVAL_TILES, distinct_fields, few_shot, probe_fields, retrieval, zero_shot
from factory.domains.pathology.findings import VALUES
from factory.domains.pathology.probes import balanced_accuracy, fit_logistic, recall_at, weighted_f1
from factory.domains.pathology.reasoning import caption_of
from factory.domains.pathology.render import tile


def test_balanced_accuracy_and_weighted_f1_by_hand():
    truth, guesses = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    # recalls 2/3 and 1/1: mean 5/6
    assert balanced_accuracy(truth, guesses) == pytest.approx(5 / 6)
    # class 0: 2 x 2 / (2 + 3) = .8 with weight 3/4; class 1: 2 x 1 / (2 + 1) = 2/3 with weight 1/4; sum .6 + 1/6
    assert weighted_f1(truth, guesses) == pytest.approx(0.6 + 1 / 6)


def test_recall_at_by_hand():
    scores = np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 1.0], [1.0, 1.0, 1.0]])
    # row 0: own is best; row 1: own is second; row 2: two ties stand ahead of it
    assert [recall_at(scores, k) for k in (1, 2, 3)] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]


@given(st.integers(0, 1000), st.integers(2, 12))
def test_recall_at_n_is_one_and_grows_with_k(seed, n):
    scores = np.random.default_rng(seed).normal(size=(n, n))
    recalls = [recall_at(scores, k) for k in range(1, n + 1)]
    assert recalls == sorted(recalls) and recalls[-1] == 1.0


def test_logistic_regression_solves_its_equations():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 5)), np.arange(30) % 2
    weights, bias = fit_logistic(features, labels, c=0.7)
    probability = 1 / (1 + np.exp(-(features @ weights + bias)))
    # at the minimum: C sum (p - y) x + w = 0, and sum (p - y) = 0
    np.testing.assert_allclose(0.7 * features.T @ (probability - labels) + weights, 0.0, atol=1e-6)
    assert abs((probability - labels).sum()) < 1e-6


def test_logistic_regression_equals_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is an oracle, not a dependency")
    rng = np.random.default_rng(1)
    features = rng.normal(size=(32, 64))
    labels = (features[:, 0] + 0.3 * rng.normal(size=32) > 0).astype(int)
    theirs = linear.LogisticRegression(C=1.0, max_iter=10_000, tol=1e-10).fit(features, labels)
    weights, bias = fit_logistic(features, labels)
    np.testing.assert_allclose(weights, theirs.coef_[0], atol=1e-4)
    assert bias == pytest.approx(theirs.intercept_[0], abs=1e-4)


class Knowing:
    """A view that knows each tile's findings and adds a strong prior for long captions, which a probe must not be fooled by."""

    def __init__(self, fields, skill=1.0):
        self.known = {tile(field): field.findings() for field in fields}
        self.skill = skill

    def continuation_logprobs(self, prompts, continuations):
        scores = []
        for (text, (image,)), continuation in zip(prompts, continuations, strict=True):
            found = self.known[image.read()]
            if ";" in continuation:
                right = sum(f"{name} {value}" in continuation for name, value in found.items())
            else:
                right = continuation.strip() == found[text.split("\n")[-1]]
            scores.append(self.skill * right + 7.0 * len(continuation))
        return np.array(scores, dtype=np.float32)

    def image_features(self, images):
        rows = [
            [VALUES[name].index(self.known[image.read()][name]) for name in ("stain", "size", "density", "gland")]
            for image in images
        ]
        return np.array(rows, dtype=np.float32) * self.skill


def test_a_model_that_knows_gets_full_marks():
    fields = probe_fields("zero-shot", "test", 3, 48)
    knowing = Knowing(fields, skill=100.0)
    figures = zero_shot(knowing, "test", 3)
    assert figures["balanced_accuracy"] == figures["weighted_f1"] == 1.0
    figures = retrieval(Knowing(distinct_fields("test", 3, RETRIEVAL_TILES)), "test", 3)
    assert set(figures.values()) == {1.0} and len(figures) == 6


def test_a_model_that_knows_nothing_is_at_chance():
    figures = zero_shot(Knowing(probe_fields("zero-shot", "test", 3, 48), skill=0.0), "test", 3)
    # one constant guess: recall 1 for that value, 0 for the others
    assert figures["stain/balanced_accuracy"] == 0.5 and figures["dab/balanced_accuracy"] == 0.25
    blind = retrieval(Knowing(distinct_fields("test", 3, RETRIEVAL_TILES), skill=0.0), "test", 3)
    assert blind["image_to_text/recall@1"] == blind["text_to_image/recall@10"] == 0.0, "all ties: none is ahead"


def test_few_shot_learns_from_features_that_hold_the_finding():
    fields = probe_fields("few-shot-train", "test", 3, 64) + probe_fields("few-shot-test", "test", 3, 64)
    good, bad = few_shot(Knowing(fields), "test", 3), few_shot(Knowing(fields, skill=0.0), "test", 3)
    assert good["gland/16_shot"] > 0.95 and good["stain/2_shot"] <= good["stain/16_shot"]
    assert all(0.25 < bad[f"{name}/16_shot"] < 0.75 for name in ("stain", "size", "density", "gland"))
    assert set(good) == set(bad) and all(np.isfinite(value) for value in good.values())


def test_retrieval_captions_are_distinct():
    captions = [caption_of(field.findings(), "terse") for field in distinct_fields("test", 0, RETRIEVAL_TILES)]
    assert len(set(captions)) == RETRIEVAL_TILES


def test_probe_tiles_are_decodable_media():
    assert Media(data=tile(probe_fields("zero-shot", "validation", 0, 1)[0])).read().startswith(b"\x89PNG")
