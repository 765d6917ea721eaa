"""Pictures: where the ink is, that nothing is skipped, and that equal series give equal bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from factory.domains.timeseries.render import SIDE, VIEWS, draw, line_plot, recurrence, spectrogram, tile
from factory.domains.timeseries.series import Series, bin_extremes, bin_means


def dark(picture: np.ndarray) -> np.ndarray:
    return picture.min(axis=2) < 160


def test_a_rising_line_goes_from_bottom_left_to_top_right() -> None:
    ink = dark(line_plot(Series(np.linspace(0, 1, 64)[None])))
    rows = np.array([np.flatnonzero(ink[:, column]).mean() for column in range(SIDE)])
    assert rows[0] > 58 and rows[-1] < 5 and (np.diff(rows) <= 0).all()


@pytest.mark.parametrize("length", [8, 64, 100, 720, 5000])
def test_one_spike_is_never_skipped(length: int) -> None:
    for at in range(0, length, max(1, length // 13)):
        values = np.zeros((1, length))
        values[0, at] = 1.0
        ink = dark(line_plot(Series(values, 0.0, 1.0)))
        assert ink[:8].any(), at
        column = np.flatnonzero(ink[:8].any(axis=0)).mean()
        assert abs(column - at / max(1, length - 1) * (SIDE - 1)) < 3 + SIDE / length


def test_missing_values_leave_a_gap_and_nothing_else_fails() -> None:
    values = np.sin(np.arange(128) / 5.0)[None].copy()
    values[0, 40:80] = np.nan
    ink = dark(line_plot(Series(values)))
    assert not ink[:, 22:38].any() and ink[:, 5].any() and ink[:, 60].any()


def test_axis_is_fixed_when_asked() -> None:
    small, large = Series(np.sin(np.arange(64))[None] * 0.1, -1, 1), Series(np.sin(np.arange(64))[None], -1, 1)
    height = [np.ptp(np.flatnonzero(dark(line_plot(s)).any(axis=1))) for s in (small, large)]
    assert height[0] < 12 and height[1] > 50


def test_spectrogram_shows_the_frequency_at_its_height() -> None:
    time = np.arange(512) / 512.0
    for hertz, row in ((64, 47), (128, 31), (192, 15)):  # row = 63 - 64 * f / 256 (half the rate)
        power = 255.0 - spectrogram(Series(np.sin(2 * np.pi * hertz * time)[None])).mean(axis=2).mean(axis=1)
        assert abs(int(power.argmax()) - row) <= 1


def test_recurrence_is_symmetric_about_its_diagonal_and_dark_on_it() -> None:
    picture = recurrence(Series(np.random.default_rng(0).standard_normal((1, 200)))).astype(int)
    flipped = picture[::-1]
    assert (flipped == flipped.transpose(1, 0, 2)).all()
    assert (np.diagonal(flipped.sum(axis=2)) == flipped.sum(axis=2).min()).all()


@pytest.mark.parametrize("view", VIEWS)
def test_tiles_are_png_of_one_size_and_repeatable(view: str) -> None:
    series = Series(np.random.default_rng(1).standard_normal((3, 90)))
    data = tile(series, view)
    assert data == tile(series, view)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (SIDE, SIDE) and image.mode == "RGB"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=300), st.sampled_from(VIEWS))
def test_any_series_can_be_drawn(values: list[float], view: str) -> None:
    picture = draw(Series(np.array([values])), view)
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=200), st.integers(2, 64))
def test_bins_keep_bounds_and_extremes(values: list[float], bins: int) -> None:
    row = np.array(values)
    means, extremes = bin_means(row, bins), bin_extremes(row, bins)
    assert len(means) == len(extremes) == bins
    for found in (means, extremes):
        assert found.min() >= row.min() - 1e-9 and found.max() <= row.max() + 1e-9
    if len(row) > bins:
        farthest = row[np.abs(row - np.median(row)).argmax()]
        assert np.isclose(np.abs(extremes - np.median(row)).max(), abs(farthest - np.median(row)))


def test_the_figure_of_timemaster() -> None:
    from factory.domains.timeseries.figure import figure, renderer

    series = Series(np.random.default_rng(2).standard_normal((2, 50)), channels=("red", "blue"))
    for view in VIEWS:
        data = figure(series, view, "EMG")
        assert data == figure(series, view, "EMG")
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (600, 250)
    assert renderer().startswith("figure-1/matplotlib-")
