"""A quadratic model of a run's score as a function of its data mixture, with its leave-one-out error.

MoDoMoDo (guides B9.6) fits `score(w) = a + b.w + w'Cw`. On mixtures, whose weights sum to 1, some of these coefficients say the same
thing twice (`a = a * sum w`, `w_i^2 = w_i - sum_j w_i w_j`), so the fit is in Scheffe's form of the same functions, which has no
such freedom: `sum_i beta_i w_i + sum_{i<j} gamma_ij w_i w_j`. Then a = 0, b = beta, and C has gamma / 2 off its zero diagonal.
Source of the form: Scheffe 1958, Experiments with Mixtures.

Shape letters: N runs, K sets, P = K (K + 1) / 2 coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from factory.errors import DataError

Array = NDArray[np.float64]

MOST_CONDITION = 1e8
"""Above this ratio of singular values the runs cannot tell some coefficients apart."""


@dataclass(frozen=True)
class Quadratic:
    """A fitted model."""

    names: tuple[str, ...]
    beta_K: Array
    """Score of each set alone."""
    gamma_KK: Array
    """Gain of mixing two sets; symmetric, zero diagonal: the model adds gamma_ij w_i w_j once for each pair."""
    ridge: float
    condition: float
    """Largest over smallest singular value of the (ridged) design."""
    rmse: float
    """Root mean square of the residuals, score units."""
    loo_N: Array
    """Leave-one-out errors, measured minus predicted without that run; NaN for a run that no other run can stand in for."""
    loo_mean_N: Array
    """The same of a model that always predicts the mean."""

    def __call__(self, weights_NK: Array) -> Array:
        """[N] predicted scores of mixtures [N, K] (or one [K])."""
        w = np.atleast_2d(weights_NK)
        return w @ self.beta_K + 0.5 * np.einsum("nk,kl,nl->n", w, self.gamma_KK, w)

    def gradient(self, weights_NK: Array) -> Array:
        """[N, K] slopes of the score."""
        return self.beta_K + np.atleast_2d(weights_NK) @ self.gamma_KK

    @property
    def loo_rmse(self) -> float | None:
        """Root mean square of the leave-one-out errors; None when a run cannot be left out."""
        return None if np.isnan(self.loo_N).any() else float(np.sqrt(np.mean(self.loo_N**2)))

    @property
    def loo_rmse_mean(self) -> float:
        """What always predicting the mean of the other runs would give."""
        return float(np.sqrt(np.mean(self.loo_mean_N**2)))


def num_coefficients(num_sets: int) -> int:
    """P of K sets: one each, and one for each pair."""
    return num_sets * (num_sets + 1) // 2


def design(weights_NK: Array) -> Array:
    """[N, P] the weights, then the products of pairs in order of `combinations`."""
    pairs = [weights_NK[:, i] * weights_NK[:, j] for i, j in combinations(range(weights_NK.shape[1]), 2)]
    return np.column_stack([weights_NK, *pairs]) if pairs else weights_NK


def fit(names: tuple[str, ...], weights_NK: Array, scores_N: Array, *, ridge: float = 0.0) -> Quadratic:
    """Least squares, with `ridge` times the squared pair coefficients added (single sets are not shrunk).

    Leave-one-out errors are exact without refitting: residual / (1 - leverage), which holds for a ridge of fixed strength too.

    Args:
        weights_NK: rows sum to 1. scores_N: their measured scores.

    Raises:
        DataError: the mixtures are collinear: some coefficients cannot be told apart.
    """
    num_runs, num_sets = weights_NK.shape
    x = design(weights_NK)
    shrink = np.sqrt(ridge) * np.eye(x.shape[1])[num_sets:] if ridge else np.zeros((0, x.shape[1]))
    augmented = np.vstack([x, shrink])
    _, singular, directions = np.linalg.svd(augmented, full_matrices=True)
    rank = int((singular > singular[0] / MOST_CONDITION).sum())
    if rank < x.shape[1]:
        raise DataError(_collinear(names, directions[rank], rank, x.shape[1]))
    q, r = np.linalg.qr(augmented)
    theta = np.linalg.solve(r, q.T @ np.concatenate([scores_N, np.zeros(len(shrink))]))
    residual = scores_N - x @ theta
    free = 1.0 - (q[:num_runs] ** 2).sum(axis=1)
    loo = np.divide(residual, free, out=np.full(num_runs, np.nan), where=free > 1e-9)
    gamma = np.zeros((num_sets, num_sets))
    for value, (i, j) in zip(theta[num_sets:], combinations(range(num_sets), 2), strict=True):
        gamma[i, j] = gamma[j, i] = value
    mean_errors = (scores_N - scores_N.mean()) * num_runs / max(num_runs - 1, 1)
    return Quadratic(
        names, theta[:num_sets], gamma, ridge, float(singular[0] / singular[-1]), float(np.sqrt(np.mean(residual**2))),
        loo, mean_errors,
    )  # fmt: skip


def _collinear(names: tuple[str, ...], direction_P: Array, rank: int, wanted: int) -> str:
    terms = [*names, *(f"{names[i]} x {names[j]}" for i, j in combinations(range(len(names)), 2))]
    mixed_up = [term for term, part in zip(terms, direction_P, strict=True) if abs(part) > 0.1]
    return (
        f"the mixtures are collinear: they fix {rank} of {wanted} coefficients, and cannot tell apart {', '.join(mixed_up)}. "
        "--ridge 0.01 would share the effect out among them."
    )
