"""Draw a series as a small square picture with numpy alone: line plot, spectrogram, recurrence plot.

Shape letters: C = channels, L = time steps, S = side of the picture in px.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from factory.domains.timeseries.series import Series, bin_means, filled

SIDE = 64
RENDERER = "tile-1"
"""Raise it when a pixel can change: a model depends on how its plots were drawn."""
VIEWS = ("line", "spectrogram", "recurrence")
INK = {1: ((30, 50, 120),), 2: ((205, 40, 40), (35, 70, 200)), 3: ((205, 40, 40), (30, 150, 60), (35, 70, 200))}
"""Colours of the lines by number of channels; more channels go on with MORE."""
MORE = ((30, 50, 120), (205, 120, 20), (30, 150, 60), (150, 40, 150), (205, 40, 40), (20, 150, 160), (120, 120, 30), (90, 90, 90))
GRID_STEP = 8
"""Faint lines every so many px."""
WAVELENGTHS = 64
"""Samples of one window of the spectrogram."""


def draw(series: Series, view: str) -> np.ndarray:
    """[S, S, 3] uint8 RGB of one of VIEWS. Pure."""
    return {"line": line_plot, "spectrogram": spectrogram, "recurrence": recurrence}[view](series)


def tile(series: Series, view: str) -> bytes:
    """The picture as PNG. Equal series give equal bytes."""
    out = io.BytesIO()
    Image.fromarray(draw(series, view), "RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()


def line_plot(series: Series) -> np.ndarray:
    """Each channel as a line about 1.5 px thick on white with a faint grid; a column spans all values that fall into it."""
    picture = np.full((SIDE, SIDE, 3), 255.0)
    picture[GRID_STEP::GRID_STEP] = picture[:, GRID_STEP::GRID_STEP] = 232.0
    low, high = series.bounds()
    inks = _inks(len(series.values))
    rows = np.arange(SIDE)[:, None] + 0.5
    for values, ink in zip(series.values, inks, strict=True):
        top, bottom, is_there = _columns(values, low, high)
        cover = np.clip(np.minimum(rows - top + 0.75, bottom - rows + 0.75), 0.0, 1.0) * is_there
        picture += cover[..., None] * (np.asarray(ink, dtype=np.float64) - picture)
    return picture.round().astype(np.uint8)


def _inks(count: int) -> Sequence[tuple[int, int, int]]:
    return INK[count] if count in INK else tuple(MORE[i % len(MORE)] for i in range(count))


def _columns(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper and lower end of the line in each column, in px from the top ([S] each), and where there is a value at all ([S] bool)."""
    places = np.linspace(0, len(values) - 1, 8 * SIDE)
    known, level = np.isfinite(values), filled(values)
    is_there = known[np.rint(places).astype(int)].reshape(SIDE, -1).any(axis=1)
    between = _height(np.interp(places, np.arange(len(values)), level), low, high).reshape(SIDE, -1)
    top, bottom = between.min(axis=1), between.max(axis=1)
    # The values themselves too, so that a spike between two places is not cut.
    columns = np.minimum(np.arange(len(values)) * SIDE // len(values), SIDE - 1)
    exact = _height(level, low, high)
    np.minimum.at(top, columns[known], exact[known])
    np.maximum.at(bottom, columns[known], exact[known])
    is_there[columns[known]] = True
    # A column reaches to the first point of the next, so that the line has no gaps.
    first = np.append(between[1:, 0], between[-1, -1])
    return np.minimum(top, first), np.maximum(bottom, first), is_there


def _height(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Px from the top, with a margin of 1.5 px; values beyond the axis lie on its end."""
    return np.clip((high - values) / (high - low), 0.0, 1.0) * (SIDE - 3) + 1.5


def spectrogram(series: Series) -> np.ndarray:
    """Power over time (left to right) and frequency (bottom is 0, top is half the rate), over the uppermost 25 decibels; dark is strong."""
    planes = []
    for values in series.values[:3]:
        values = filled(values)
        if len(values) < 4 * WAVELENGTHS:
            values = np.interp(np.linspace(0, len(values) - 1, 4 * WAVELENGTHS), np.arange(len(values)), values)
        window = np.hanning(WAVELENGTHS)
        starts = np.linspace(0, len(values) - WAVELENGTHS, SIDE).round().astype(int)
        frames = values[starts[:, None] + np.arange(WAVELENGTHS)] - values.mean()
        power = np.abs(np.fft.rfft(frames * window, 2 * SIDE, axis=1))[:, :SIDE] ** 2
        decibels = 10.0 * np.log10(power + 1e-12)
        planes.append(np.clip((decibels - decibels.max() + 25.0) / 25.0, 0.0, 1.0).T[::-1])
    return _painted(planes)


def recurrence(series: Series) -> np.ndarray:
    """|x_i - x_j| over the range of x: row i from the bottom, column j; dark is near. Two or three channels as colour planes."""
    planes = []
    for values in series.values[:3]:
        short = filled(bin_means(values, SIDE))
        span = float(short.max() - short.min()) or 1.0
        planes.append((1.0 - np.abs(short[:, None] - short[None, :]) / span)[::-1])
    return _painted(planes)


def _painted(planes: list[np.ndarray]) -> np.ndarray:
    """One plane in [0, 1] from paper to ink, so that all views have the same bright ground; two or three as colour planes."""
    if len(planes) == 1:
        [plane] = planes
        stops = np.array([(255, 255, 255), (245, 190, 120), (150, 40, 110), (20, 15, 60)], dtype=np.float64)
        place = plane * (len(stops) - 1)
        index = np.minimum(place.astype(int), len(stops) - 2)
        share = (place - index)[..., None]
        return ((1 - share) * stops[index] + share * stops[index + 1]).round().astype(np.uint8)
    planes = [*planes, *[np.zeros_like(planes[0])] * (3 - len(planes))]
    return (255 - np.stack(planes, axis=-1) * 255).round().astype(np.uint8)
