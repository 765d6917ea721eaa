"""The fit recovers a known quadratic; its leave-one-out error is that of fitting again without the run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.datamix.quadratic import design, fit, num_coefficients
from factory.datamix.seeds import is_same, missing, num_different, num_needed, pair_mixtures, seed_mixtures
from factory.datamix.simplex import distance, maximise, project, rounded
from factory.errors import DataError

NAMES = ("a", "b", "c", "d")


def mixtures(num, num_sets, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(num_sets), num)


@pytest.mark.parametrize("num_sets", [2, 3, 4])
def test_a_quadratic_is_recovered(num_sets):
    # a full a + b.w + w'Cw with its diagonal; on the simplex the fitted form must give the same function
    rng = np.random.default_rng(num_sets)
    a, b, c = 0.3, rng.normal(size=num_sets), rng.normal(size=(num_sets, num_sets))

    def truth(w):
        return a + w @ b + np.einsum("nk,kl,nl->n", w, c, w)

    seen, new = mixtures(num_coefficients(num_sets) + 3, num_sets, 1), mixtures(50, num_sets, 2)
    model = fit(NAMES[:num_sets], seen, truth(seen))
    assert np.abs(model(new) - truth(new)).max() < 1e-6 and model.rmse < 1e-9 and model.loo_rmse < 1e-6
    # the slope along the simplex is that of the truth, too
    along = new[:25] - new[25:]
    slope = b + new[:25] @ (c + c.T)
    assert np.abs((model.gradient(new[:25]) * along).sum(1) - (slope * along).sum(1)).max() < 1e-6


def test_coefficients_by_hand():
    # two sets: a alone .2, b alone .4, half and half .5: .5 * .2 + .5 * .4 + g / 4 = .5 -> g = .8
    model = fit(("a", "b"), np.array([[1, 0], [0, 1], [0.5, 0.5]]), np.array([0.2, 0.4, 0.5]))
    assert model.beta_K == pytest.approx([0.2, 0.4]) and model.gamma_KK[0, 1] == pytest.approx(0.8)
    # three coefficients, three runs: none can be left out
    assert model.loo_rmse is None and np.isnan(model.loo_N).all()


def test_leave_one_out_by_hand():
    # one coefficient each for a and b is too little to draw by hand, so: a alone .2 and .3, b alone .4, half .5
    # without the first run: a = .3, and it is missed by .2 - .3 = -.1; without the second by +.1; the other two cannot be left out
    model = fit(("a", "b"), np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5]]), np.array([0.2, 0.3, 0.4, 0.5]))
    assert model.loo_N[:2] == pytest.approx([-0.1, 0.1]) and np.isnan(model.loo_N[2:]).all()
    # of the mean: scores .2 .3 .4 .5; .2 against (.3 + .4 + .5) / 3 = .4
    assert model.loo_mean_N == pytest.approx([-0.2, -0.2 / 3, 0.2 / 3, 0.2])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.003, 0.1]), st.integers(2, 3))
def test_leave_one_out_equals_fitting_again(seed, ridge, num_sets):
    num = num_coefficients(num_sets) + 4
    w, y = mixtures(num, num_sets, seed), np.random.default_rng(seed).normal(size=num)
    model = fit(NAMES[:num_sets], w, y, ridge=ridge)
    for i in range(num):
        rest = np.arange(num) != i
        again = fit(NAMES[:num_sets], w[rest], y[rest], ridge=ridge)
        assert model.loo_N[i] == pytest.approx(y[i] - again(w[i])[0], rel=1e-5, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(1e-3, 1.0))
def test_the_ridge_solves_its_normal_equations_and_shrinks_only_pairs(seed, ridge):
    w, y = mixtures(9, 3, seed), np.random.default_rng(seed).normal(size=9)
    model, plain = fit(NAMES[:3], w, y, ridge=ridge), fit(NAMES[:3], w, y)
    x = design(w)
    penalty = np.diag([0.0] * 3 + [ridge] * 3)
    theta = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    assert np.concatenate([model.beta_K, model.gamma_KK[np.triu_indices(3, 1)]]) == pytest.approx(theta, rel=1e-6, abs=1e-8)
    assert (
        np.abs(model.gamma_KK).sum() <= np.abs(plain.gamma_KK).sum() * 2
        and np.linalg.norm(model.gamma_KK) <= np.linalg.norm(plain.gamma_KK) + 1e-9
    )


def test_collinear_mixtures_are_named():
    # c always comes with as much b: their effects cannot be told apart
    share = np.linspace(0, 1, 8)
    w = np.column_stack([1 - share, share / 2, share / 2])
    with pytest.raises(DataError, match=r"collinear: they fix 3 of 6 coefficients.*b"):
        fit(NAMES[:3], w, np.ones(8))
    assert fit(NAMES[:3], np.vstack([w, np.eye(3)]), np.ones(11), ridge=0.1).condition > 1


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=5))
def test_projection_is_the_nearest_point_of_the_simplex(points):
    points = np.array(points)
    found = project(points)
    assert (found >= 0).all() and found.sum(1) == pytest.approx(np.ones(len(points)))
    assert np.abs(project(found) - found).max() < 1e-12
    others = mixtures(40, 3, 0)
    for point, near in zip(points, found, strict=True):
        assert np.linalg.norm(point - near) <= np.linalg.norm(point - others, axis=1).min() + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.sampled_from([0.25, 0.6, 1.0]))
def test_the_best_mixture_beats_a_fine_grid_and_stays_within_reach(seed, within):
    w, y = mixtures(10, 3, seed), np.random.default_rng(seed).normal(size=10)
    model = fit(NAMES[:3], w, y)
    best, value = maximise(model, w, within=within, seed=0)
    assert best.min() >= 0 and best.sum() == pytest.approx(1) and value == pytest.approx(model(best)[0])
    assert distance(best, w) <= within + 1e-9
    steps = np.linspace(0, 1, 41)
    grid = np.array([[p, q, 1 - p - q] for p in steps for q in steps if p + q <= 1 + 1e-12])
    reach = np.vstack([(1 - within) * one + within * grid for one in w])
    assert value >= model(reach).max() - 1e-9
    assert np.array_equal(best, maximise(model, w, within=within, seed=0)[0])


def test_an_inner_maximum_is_found_exactly():
    # score = -(w - t)^2 summed: its maximum on the simplex is t itself
    target = np.array([0.2, 0.5, 0.3])
    w = mixtures(9, 3, 5)
    model = fit(NAMES[:3], w, -((w - target) ** 2).sum(1))
    assert maximise(model, w, within=1.0, seed=0)[0] == pytest.approx(target, abs=1e-6)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=7))
def test_rounded_weights_still_sum_to_one(parts):
    mixture = np.array(parts) / sum(parts)
    found = rounded(mixture)
    assert sum(round(part * 10000) for part in found) == 10000
    assert max(abs(a - b) for a, b in zip(found, mixture, strict=True)) <= 1.01e-4


def test_seed_mixtures_of_the_paper():
    found = seed_mixtures(["a", "b", "c"])
    assert list(found) == ["a alone", "b alone", "c alone", "without a", "without b", "without c", "all"]
    assert found["without b"] == {"a": 0.5, "b": 0.0, "c": 0.5} and found["all"]["a"] == pytest.approx(1 / 3)
    # of two sets, leaving one out leaves the other alone
    assert list(seed_mixtures(["a", "b"])) == ["a alone", "b alone", "all"]
    # 5 sets: 11 seeds, 15 coefficients; with a ridge the seeds do. 4 sets: 9 and 10. 3 sets: 6 coefficients, fewer than 7 seeds
    assert [(num_needed(k, 0.0), num_needed(k, 0.1)) for k in (2, 3, 4, 5)] == [(3, 3), (6, 6), (10, 9), (15, 11)]


@pytest.mark.parametrize("num_sets", [2, 3, 4])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_what_is_missing_is_enough_for_a_fit(num_sets, ridge):
    names = NAMES[:num_sets]
    observed = [dict.fromkeys(names, 1 / num_sets)]
    asked = missing(names, observed, ridge)
    every = [*observed, *asked.values()]
    assert num_different(every) >= num_needed(num_sets, ridge) and not any(is_same(observed[0], one) for one in asked.values())
    weights = np.array([[one[name] for name in names] for one in every])
    assert fit(names, weights, np.ones(len(every)), ridge=ridge).rmse < 1e-9
    assert missing(names, [*every, *pair_mixtures(names).values()], ridge) == {}
    if ridge == 0:
        # and no pair is asked for in vain
        assert num_different(every) - len(seed_mixtures(names)) == {2: 0, 3: 0, 4: 2}[num_sets]
