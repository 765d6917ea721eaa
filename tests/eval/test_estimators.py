"""avg@k, pass@k and their intervals: by hand, by enumeration, by law."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.eval.estimators import attempt_figures, bootstrap_mean, ks_for, pass_at_k


def test_pass_at_k_by_hand():
    # n=5, c=2, k=2: 1 - C(3,2)/C(5,2) = 1 - 3/10
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)
    assert pass_at_k(4, 0, 3) == 0.0 and pass_at_k(4, 1, 4) == 1.0 and pass_at_k(8, 3, 1) == pytest.approx(3 / 8)


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(st.integers(1, 300), st.data())
def test_pass_at_k_agrees_with_binomials_and_grows_with_k(n, data):
    c = data.draw(st.integers(0, n))
    values = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert values[0] == pytest.approx(c / n) and all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    k = data.draw(st.integers(1, n))
    assert values[k - 1] == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ConfigError, match="must be from 1 to the attempts"):
        pass_at_k(n, c, k)


def test_bootstrap_is_repeatable_holds_the_mean_and_has_width_zero_for_equals():
    values = [0.0, 1.0, 1.0, 0.5, 0.0, 1.0]
    low, high = bootstrap_mean(values, resamples=2000, seed=1)
    assert (low, high) == bootstrap_mean(values, resamples=2000, seed=1) and low < sum(values) / 6 < high
    assert bootstrap_mean([0.25] * 5, resamples=100, seed=0) == (0.25, 0.25)
    assert all(map(math.isnan, bootstrap_mean([], resamples=10, seed=0)))


def test_bootstrap_width_is_that_of_the_normal_law():
    # 400 fair coins: the mean's standard error is 0.5/20 = 0.025, so 95 % is about 0.098 wide
    low, high = bootstrap_mean([0.0, 1.0] * 200, resamples=4000, seed=0)
    assert high - low == pytest.approx(2 * 1.96 * 0.025, rel=0.1)


def test_figures_of_attempts_by_hand():
    found = attempt_figures([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.5, 0.0], []], resamples=50, seed=0)
    assert found["avg@4"]["value"] == pytest.approx((0.25 + 0.625) / 2) and found["avg@4"]["n"] == 2
    # c=1: pass@2 = 1 - C(3,2)/C(4,2) = 1/2; c=2 (0.5 is not full marks): 1 - C(2,2)/6 = 5/6
    assert found["pass@2"]["value"] == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert set(found) == {"avg@4", "pass@1", "pass@2", "pass@4"} and ks_for(6) == [1, 2, 4, 6]


def test_a_question_with_too_few_verified_attempts_is_left_out_of_that_k():
    found = attempt_figures([[1.0, 1.0], [0.0]], resamples=50, seed=0)
    assert (found["pass@2"]["n"], found["pass@2"]["value"]) == (1, 1.0) and found["pass@1"]["n"] == 2
