"""Rewards over embeddings that the caller supplies: pure functions on arrays, no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _unit_rows(rows: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{what} must be [tokens, dimension] with at least one of each, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds numbers that are not finite")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    return np.divide(array, lengths, out=np.zeros_like(array), where=lengths > 0)


def bmas(response: ArrayLike, reference: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Bidirectional mean of the best cosine similarities, in [-1, 1] (Mixed-R1, arXiv 2505.24164; `guides/domains.md` 9.3).

        ( mean_i max_j cos(x_i, y_j) + mean_j max_i cos(x_i, y_j) ) / 2

    Args:
        response: [n, D] static embedding-table rows of the response's tokens; not contextual.
        reference: [m, D] the same of the reference.
        weights: [n] weight of each response token in the first mean (ours, e.g. inverse frequency, so that a flood of stop
            words does not pay); None weighs them alike.

    Raises ValueError: no token, other dimensions, or numbers that are not finite.
    """
    x, y = _unit_rows(response, "response"), _unit_rows(reference, "reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"response and reference have dimensions {x.shape[1]} and {y.shape[1]}")
    cosines = np.clip(x @ y.T, -1.0, 1.0)
    if weights is None:
        forward = cosines.max(axis=1).mean()
    else:
        w = np.asarray(weights, dtype=np.float64)
        if w.shape != (x.shape[0],) or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
            raise ValueError(f"weights must be {x.shape[0]} finite numbers, 0 or more, not all 0")
        forward = (cosines.max(axis=1) * w).sum() / w.sum()
    return float((forward + cosines.max(axis=0).mean()) / 2)


def clip_direction_reward(state: ArrayLike, goal: ArrayLike, baseline: ArrayLike, alpha: float) -> float:
    """`1 - 0.5 * |alpha * proj_L(s) + (1 - alpha) * s - g|^2`, L the line from baseline b to goal g (B8.19).

    Args:
        state, goal, baseline: [D] unit vectors of the image, the goal text and the baseline text.
        alpha: in [0, 1]; 0 is plain cosine similarity.
    """
    s, g, b = (np.asarray(vector, dtype=np.float64) for vector in (state, goal, baseline))
    if not s.shape == g.shape == b.shape or s.ndim != 1:
        raise ValueError("state, goal and baseline must be vectors of one length")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; want a number in [0, 1]")
    direction = g - b
    if not direction.any():
        raise ValueError("goal and baseline are equal; there is no direction between them")
    projected = b + direction * ((s - b) @ direction) / (direction @ direction)
    return float(1.0 - 0.5 * np.sum((alpha * projected + (1.0 - alpha) * s - g) ** 2))
