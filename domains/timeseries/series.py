"""A time series as the pack sees it, and the ways to make it shorter.

Shape letters: C = channels, L = time steps, N = bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEPT_NUMBERS = 4096
"""Numbers of a series kept in `Sample.meta["series"]`; longer ones are averaged down."""


@dataclass(frozen=True, eq=False)
class Series:
    """Values on an even grid; NaN where a value is missing."""

    values: np.ndarray
    """[C, L] float64."""
    low: float | None = None
    high: float | None = None
    """Fixed ends of the value axis, so that amplitudes can be compared between plots; None fits the axis to the values."""
    channels: tuple[str, ...] = ()
    """Names of the channels; empty for one that needs none."""

    @property
    def length(self) -> int:
        """Time steps."""
        return int(self.values.shape[1])

    def bounds(self) -> tuple[float, float]:
        """Ends of the value axis; never equal."""
        finite = self.values[np.isfinite(self.values)]
        low = self.low if self.low is not None else float(finite.min()) if finite.size else 0.0
        high = self.high if self.high is not None else float(finite.max()) if finite.size else 1.0
        return (low, high) if high > low else (low - 0.5, low + 0.5)

    def to_json(self) -> list[list[float | None]]:
        """Plain numbers of five significant digits, at most KEPT_NUMBERS; None where missing."""
        values = self.values
        most = max(1, KEPT_NUMBERS // len(values))
        if self.length > most:
            values = np.stack([bin_means(row, most) for row in values])
        return [[float(f"{value:.5g}") if np.isfinite(value) else None for value in row] for row in values]


def from_json(rows: list[list[float | None]]) -> np.ndarray:
    """[C, L] float64 of what `Series.to_json` wrote."""
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def filled(row: np.ndarray) -> np.ndarray:
    """[L] with missing values joined by straight lines (ends are held); all zeros when nothing is there."""
    known = np.isfinite(row)
    if known.all():
        return row
    if not known.any():
        return np.zeros_like(row)
    places = np.arange(len(row))
    return np.interp(places, places[known], row[known])


def bin_edges(length: int, num_bins: int) -> np.ndarray:
    """[N + 1] int: borders of `num_bins` runs that cover the series; no run is empty when num_bins <= length."""
    return np.linspace(0, length, num_bins + 1).round().astype(int)


def bin_means(row: np.ndarray, num_bins: int) -> np.ndarray:
    """[N]: mean of each run; missing where a whole run is missing. Shorter series are stretched by straight lines."""
    if len(row) <= num_bins:
        return np.interp(np.linspace(0, len(row) - 1, num_bins), np.arange(len(row)), filled(row))
    known = np.isfinite(row)
    edges = bin_edges(len(row), num_bins)[:-1]
    sums = np.add.reduceat(np.where(known, row, 0.0), edges)
    counts = np.add.reduceat(known.astype(float), edges)
    return np.divide(sums, counts, out=np.full(num_bins, np.nan), where=counts > 0)


def bin_extremes(row: np.ndarray, num_bins: int) -> np.ndarray:
    """[N]: of each run, the value farthest from the series' median, so that a short pulse survives."""
    row = filled(row)
    if len(row) <= num_bins:
        return bin_means(row, num_bins)
    middle = float(np.median(row))
    edges = bin_edges(len(row), num_bins)
    return np.array([part[np.abs(part - middle).argmax()] for part in np.split(row, edges[1:-1])])


def add_noise(rng: np.random.Generator, clean: np.ndarray, snr: float, noise: np.ndarray | None = None) -> np.ndarray:
    """The clean signal with noise `snr` decibels below it: 10 log10(var(signal) / var(noise)), over all channels.

    Args:
        clean: [C, L].
        noise: [C, L] of any scale; None draws white noise.
    """
    noise = rng.standard_normal(clean.shape) if noise is None else noise
    power = float(np.var(clean, axis=1).mean())
    wanted = np.sqrt(power / 10.0 ** (snr / 10.0))
    return clean + noise * (wanted / max(float(noise.std()), 1e-12))
