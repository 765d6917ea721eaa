"""Figures of an eval by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.eval.intervals import mean_interval
from factory.stages.eval.summary import Row, summarise


def row(score, *, task="choice", status="ok", tokens=3, reference="A", finished=True):
    return Row("id", task, "q", "a", score, status, "", reference, tokens, finished)


def test_wilson_interval_by_hand():
    # 8 of 10, z = 1.96: centre = (.8 + 3.8415/20) / (1 + .38415) = .71674; half = 1.96/1.38415 * sqrt(.016 + 3.8415/400) = .22659
    low, high = mean_interval([1.0] * 8 + [0.0] * 2)
    assert low == pytest.approx(0.4902, abs=5e-4)
    assert high == pytest.approx(0.9433, abs=5e-4)


def test_interval_of_a_perfect_run_is_not_a_point():
    # n = 400: n / (n + z^2) = 400 / 403.84 = .99049
    low, high = mean_interval([1.0] * 400)
    assert low == pytest.approx(0.99049, abs=1e-5)
    assert high == pytest.approx(1.0)


@pytest.mark.parametrize(("score", "n"), [(0.0, 800), (1.0, 800), (0.0, 3), (1.0, 7)])
def test_interval_holds_its_mean_at_the_ends(score, n):
    # In exact arithmetic the limit at 0 of n is 0; rounding must not put it above the mean.
    low, high = mean_interval([score] * n)
    assert low <= score <= high


def test_no_scores_have_no_interval():
    assert all(math.isnan(edge) for edge in mean_interval([]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_interval_is_ordered_and_in_range(scores):
    low, high = mean_interval(scores)
    mean = math.fsum(scores) / len(scores)
    assert 0 <= low <= mean + 1e-9 and mean - 1e-9 <= high <= 1


def test_masked_rows_leave_numerator_and_denominator():
    rows = [
        row(1.0),
        row(0.0, status="wrong"),
        row(0.0, status="timeout"),
        row(0.0, status="error"),
        row(0.0, status="unparsable"),
    ]
    got = summarise("accuracy", rows)
    assert got["primary"]["n"] == 3  # ok, wrong, unparsable
    assert got["primary"]["value"] == pytest.approx(1 / 3)
    assert got["statuses"] == {"error": 1, "ok": 1, "timeout": 1, "unparsable": 1, "wrong": 1}


def test_majority_guess_counts_each_task_apart():
    # task a: A A B -> 2 of 3; task b: x -> 1 of 1; together 3 of 4
    rows = [row(0, task="a", reference=r) for r in "AAB"] + [row(0, task="b", reference="x")]
    assert summarise("accuracy", rows)["majority"] == pytest.approx(0.75)


def test_length_is_told_apart_by_right_and_wrong():
    rows = [row(1.0, tokens=2), row(1.0, tokens=4), row(0.0, status="wrong", tokens=9, finished=False)]
    assert summarise("accuracy", rows)["length"] == {"right": 3.0, "wrong": 9.0, "truncated": 1}
