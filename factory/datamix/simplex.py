"""The best mixture under a fitted model: projected gradient ascent on the simplex from many starts, near observed mixtures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from factory.datamix.quadratic import Quadratic

Array = NDArray[np.float64]
NUM_RANDOM_STARTS = 16
MAX_ITERATIONS = 5000


def project(points_SK: Array) -> Array:
    """[S, K] nearest points of the simplex (weights 0 or more, sum 1).

    Source: Held, Wolfe and Crowder 1974; the sorting form of Duchi et al. 2008, figure 1.
    """
    num_points, num_sets = points_SK.shape
    falling = -np.sort(-points_SK, axis=1)
    excess = (np.cumsum(falling, axis=1) - 1.0) / np.arange(1, num_sets + 1)
    last = (falling > excess).sum(axis=1) - 1
    return np.maximum(points_SK - excess[np.arange(num_points), last][:, None], 0.0)


def maximise(model: Quadratic, observed_NK: Array, *, within: float, seed: int) -> tuple[Array, float]:
    """The mixture [K] of the highest predicted score that moves at most a share `within` of the data of some observed mixture.

    Mixtures `(1 - within) o + within v`, with v any mixture, are searched around each observed o; a quadratic is climbed from
    the vertices, the centre, o itself and random v of the seed, with the step 1 / L that never goes down.

    Args:
        within: in (0, 1]; 1 searches the whole simplex, however far from any run.
    """
    num_sets = observed_NK.shape[1]
    random = np.random.default_rng(seed).dirichlet(np.ones(num_sets), NUM_RANDOM_STARTS)
    starts = np.vstack([np.eye(num_sets), np.full((1, num_sets), 1.0 / num_sets), observed_NK, random])
    anchors = np.repeat(observed_NK, len(starts), axis=0)
    moves = np.tile(starts, (len(observed_NK), 1))
    curvature = within**2 * np.linalg.norm(model.gamma_KK, 2)
    slope = within * max(float(np.abs(model.beta_K).max()), float(np.abs(model.gamma_KK).max()), 1e-12)
    # Without curvature any step climbs; one that crosses the simplex in a few is wanted.
    step = 1.0 / max(curvature, 1e-3 * slope)
    for _ in range(MAX_ITERATIONS):
        after = project(moves + step * within * model.gradient((1.0 - within) * anchors + within * moves))
        if np.abs(after - moves).max() < 1e-12:
            break
        moves = after
    found = np.vstack([observed_NK, (1.0 - within) * anchors + within * moves])
    values = model(found)
    best = int(np.argmax(np.round(values, 12)))
    return found[best], float(values[best])


def distance(mixture_K: Array, observed_NK: Array) -> float:
    """Smallest share of the data that would have to move to make an observed mixture of it: half the sum of differences."""
    return float(0.5 * np.abs(observed_NK - mixture_K).sum(axis=1).min())


def rounded(mixture_K: Array, digits: int = 4) -> list[float]:
    """The mixture in so many digits that still sum to 1: what is missing goes to the weights that lost most."""
    unit = 10**digits
    floor = np.floor(mixture_K * unit + 1e-9).astype(int)
    order = np.argsort(-(mixture_K * unit - floor), kind="stable")
    floor[order[: unit - int(floor.sum())]] += 1
    return [int(part) / unit for part in floor]
