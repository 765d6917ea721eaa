"""The paired bootstrap: equal to a slow reference, covering at its stated rate, deterministic."""

from __future__ import annotations

import json
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import DataError
from factory.pipeline.compare import paired_difference, read_scores


def test_equals_a_slow_reference():
    rng = random.Random(0)
    before = {f"s{i}": rng.random() for i in range(23)}
    after = {f"s{i}": rng.random() for i in range(23)}
    keys = sorted(before)
    drawn = np.random.default_rng(5).integers(0, 23, size=(400, 23))
    means = sorted(statistics.fmean(after[keys[j]] - before[keys[j]] for j in row) for row in drawn.tolist())
    got = paired_difference(before, after, resamples=400, seed=5)
    # Linear interpolation between order statistics: position 0.025 * 399 = 9.975 and 0.975 * 399 = 389.025.
    assert got.low == pytest.approx(means[9] + 0.975 * (means[10] - means[9]))
    assert got.high == pytest.approx(means[389] + 0.025 * (means[390] - means[389]))
    assert got.value == pytest.approx(statistics.fmean(after[k] - before[k] for k in keys))


def test_interval_covers_the_true_difference_about_95_percent_of_the_time():
    # 0/1 scores, n = 100, right with 0.5 before and 0.65 after: the true difference is 0.15.
    rng, hits, trials = np.random.default_rng(1), 0, 400
    for trial in range(trials):
        before = dict(enumerate((rng.random(100) < 0.5).astype(float)))
        after = dict(enumerate((rng.random(100) < 0.65).astype(float)))
        found = paired_difference(before, after, resamples=400, seed=trial)
        hits += found.low <= 0.15 <= found.high
    # Binomial(400, 0.95) has standard deviation 0.011; the percentile bootstrap at n = 100 is a little narrow.
    assert 0.91 <= hits / trials <= 0.98


def test_chunks_do_not_change_the_draws(monkeypatch):
    before, after = {i: 0.0 for i in range(10)}, {i: float(i % 3 == 0) for i in range(10)}
    whole = paired_difference(before, after, resamples=100, seed=2)
    monkeypatch.setattr("factory.pipeline.compare.CHUNK", 35)
    assert paired_difference(before, after, resamples=100, seed=2) == whole


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30), st.integers(0, 99))
def test_swapping_the_sides_mirrors_the_interval(pairs, seed):
    a, b = {i: p[0] for i, p in enumerate(pairs)}, {i: p[1] for i, p in enumerate(pairs)}
    there, back = paired_difference(a, b, resamples=50, seed=seed), paired_difference(b, a, resamples=50, seed=seed)
    assert (there.low, there.value, there.high) == pytest.approx((-back.high, -back.value, -back.low))
    assert there.low - 1e-9 <= there.high


def test_only_samples_measured_in_both_count(tmp_path):
    rows = [
        {"id": "a", "score": 1.0, "status": "ok"},
        {"id": "b", "score": 0.0, "status": "timeout"},
        {"id": "c", "score": 0.0, "status": "wrong"},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = read_scores(tmp_path / "s.jsonl")
    assert scores == {"a": 1.0, "c": 0.0}
    found = paired_difference(scores, {"a": 0.0, "b": 1.0, "d": 1.0}, resamples=10, seed=0)
    assert (found.value, found.low, found.high, found.n) == (-1.0, -1.0, -1.0, 1)
    assert paired_difference(scores, {"z": 1.0}, resamples=10, seed=0) is None


def test_twice_the_same_id_is_refused(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"id": "a", "score": 1, "status": "ok"}\n' * 2)
    with pytest.raises(DataError, match=r"s.jsonl:2: sample id 'a' occurs twice"):
        read_scores(tmp_path / "s.jsonl")
