"""Copies of a training series that keep its class: other height, a little noise, a shift and a gentle warp of time."""

from __future__ import annotations

import random

import numpy as np

from factory.domains.timeseries.series import filled

HEIGHT, NOISE, WARP, SHIFT = 0.1, 0.03, 0.05, 0.03
"""Largest change of scale; noise as a share of the standard deviation; warp and shift as shares of the length."""


def altered(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """[C, L] of the same length. All channels are warped alike; missing values stay missing only where nothing is moved onto them."""
    source = np.random.default_rng(rng.getrandbits(64))
    length = values.shape[1]
    places = np.arange(length, dtype=np.float64)
    share = places / max(1, length - 1)
    bend = WARP * rng.uniform(-1.0, 1.0) * np.sin(np.pi * share) + WARP / 2 * rng.uniform(-1.0, 1.0) * np.sin(2 * np.pi * share)
    moved = np.clip(places + length * (bend + SHIFT * rng.uniform(-1.0, 1.0)), 0, length - 1)
    rows = []
    for row in values:
        known = filled(row)
        warped = np.interp(moved, places, known)
        centre = known.mean()
        height = 1.0 + HEIGHT * rng.uniform(-1.0, 1.0)
        rows.append(centre + height * (warped - centre) + NOISE * known.std() * source.standard_normal(length))
    found = np.stack(rows)
    is_gap = ~np.isfinite(values)
    return np.where(is_gap[:, np.rint(moved).astype(int)], np.nan, found) if is_gap.any() else found
