"""A series as numbers in the question: the same sample without a picture.

Values are put on a scale of whole numbers from 0 to 99 (the ends of the axis) and shortened to `points` a channel, keeping of
each stretch the value farthest from the median; that is what a tokenizer with single digits reads best. Missing is `?`.
"""

from __future__ import annotations

import numpy as np

from factory.domains.timeseries.series import Series, bin_extremes, bin_means

TOP = 99


def whole_numbers(series: Series, points: int) -> list[list[int | None]]:
    """[C][at most points] on the scale 0 to 99; None where missing."""
    low, high = series.bounds()
    rows: list[list[int | None]] = []
    for values in series.values:
        if series.length > points:
            missing = ~np.isfinite(bin_means(values, points))
            short = np.where(missing, np.nan, bin_extremes(values, points))
        else:
            short = values
        scaled = np.clip((short - low) / (high - low), 0.0, 1.0) * TOP
        rows.append([round(float(value)) if np.isfinite(value) else None for value in scaled])
    return rows


def written(series: Series, points: int) -> str:
    """One line per channel: its name, if it has one, and its numbers parted by spaces."""
    lines = []
    for index, row in enumerate(whole_numbers(series, points)):
        name = series.channels[index] if index < len(series.channels) else ""
        lines.append(" ".join([*([f"{name} :"] if name else []), *("?" if value is None else str(value) for value in row)]))
    return "\n".join(lines)
