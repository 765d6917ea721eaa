"""Figures of merit and a small classifier for the probes, in numpy.

Shape letters: N = rows, D = features, C = classes.
"""

from __future__ import annotations

import numpy as np


def balanced_accuracy(truth: np.ndarray, guesses: np.ndarray) -> float:
    """Mean recall over the classes that occur in `truth` ([N] int each)."""
    return float(np.mean([(guesses[truth == label] == label).mean() for label in np.unique(truth)]))


def weighted_f1(truth: np.ndarray, guesses: np.ndarray) -> float:
    """F1 of each class that occurs in `truth`, weighted by how often it does. A class never guessed right has F1 0."""
    total = 0.0
    for label in np.unique(truth):
        hits = float(((guesses == label) & (truth == label)).sum())
        named = float((guesses == label).sum() + (truth == label).sum())
        total += float((truth == label).mean()) * (2.0 * hits / named)
    return total


def recall_at(scores: np.ndarray, k: int) -> float:
    """Share of rows whose own column (the diagonal) is among the k best of its row; ties count against it.

    Args:
        scores: [N, N], row = query, column = candidate, higher is better.
    """
    own = np.diag(scores)[:, None]
    ahead = (scores >= own).sum(axis=1) - 1
    return float((ahead < k).mean())


def fit_logistic(features: np.ndarray, labels: np.ndarray, *, c: float = 1.0, max_iter: int = 50) -> tuple[np.ndarray, float]:
    """Two-class logistic regression with an L2 penalty on the weights, none on the bias, by Newton's method.

    Minimises `C sum_i log(1 + exp(-s_i f_i)) + |w|^2 / 2` with s = +-1, as scikit-learn's LogisticRegression does.

    Args:
        features: [N, D] float.
        labels: [N] of 0 and 1, both present.
        c: inverse strength of the penalty.

    Returns:
        ([D] weights, bias); class 1 where `features @ weights + bias > 0`.
    """
    design = np.hstack([features, np.ones((len(features), 1))])
    penalty = np.append(np.ones(features.shape[1]), 0.0) / c
    theta = np.zeros(design.shape[1])

    def objective(point: np.ndarray) -> float:
        margins = (2.0 * labels - 1.0) * (design @ point)
        return float(np.logaddexp(0.0, -margins).sum() + 0.5 * (penalty * point * point).sum())

    for _ in range(max_iter):
        probability = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -60.0, 60.0)))
        gradient = design.T @ (probability - labels) + penalty * theta
        if np.abs(gradient).max() < 1e-8:
            break
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-10 * np.eye(len(theta)), gradient)
        size, now = 1.0, objective(theta)
        # Halve the step until the objective falls: a full Newton step can overshoot while the classes are nearly separated.
        while size > 1e-6 and objective(theta - size * step) > now:
            size /= 2.0
        theta = theta - size * step
    return theta[:-1], float(theta[-1])
