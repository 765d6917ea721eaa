"""A staff on 64 x 64 px, drawn so that a model of a million parameters can read it: one note in each column of 16 px.

The lines lie 8 px apart, so a step is 4 px; C4 to A5 fit. The clef is left out: it is always the treble clef. Own drawing, no font.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from factory.domains.music.keys import Key
from factory.domains.music.pitch import SHARP_ORDER, Pitch

SIDE = 64
SCALE = 4
"""Drawn larger by this and scaled down, for smooth edges."""
COLUMNS = 4
STEP_PX = 4
MIDDLE = 34
"""Staff place of B4, the middle line, at the middle of the tile."""
LOWEST, HIGHEST = 28, 40
"""C4 and A5."""
_SHARP_PLACES = {"F": 38, "C": 35, "G": 39, "D": 36, "A": 33, "E": 37, "B": 34}
"""Places of the sharps of a treble key signature."""
_FLAT_PLACES = {"B": 34, "E": 37, "A": 33, "D": 36, "G": 32, "C": 35, "F": 31}


class Canvas:
    """A tile at four times its size, in units of its final pixels."""

    def __init__(self) -> None:
        self.image = Image.new("L", (SIDE * SCALE, SIDE * SCALE), 255)
        self.draw = ImageDraw.Draw(self.image)

    def line(self, x1: float, y1: float, x2: float, y2: float, width: float, ink: int = 0) -> None:
        """A straight line."""
        self.draw.line([x1 * SCALE, y1 * SCALE, x2 * SCALE, y2 * SCALE], fill=ink, width=max(1, round(width * SCALE)))

    def oval(self, x: float, y: float, half_width: float, half_height: float, *, is_open: bool = False) -> None:
        """An ellipse around a point, filled or as a ring."""
        box = [(x - half_width) * SCALE, (y - half_height) * SCALE, (x + half_width) * SCALE, (y + half_height) * SCALE]
        self.draw.ellipse(box, fill=255 if is_open else 0, outline=0, width=round(1.3 * SCALE))

    def tile(self) -> np.ndarray:
        """[64, 64] uint8 grey."""
        return np.asarray(self.image.resize((SIDE, SIDE), Image.Resampling.BOX))


def height(place: int) -> float:
    """Pixel row of a staff place."""
    return SIDE / 2 - (place - MIDDLE) * STEP_PX


def _staff(canvas: Canvas) -> None:
    for place in (30, 32, 34, 36, 38):
        canvas.line(0, height(place), SIDE, height(place), 0.8, 150)


def _sign(canvas: Canvas, x: float, y: float, alter: int) -> None:
    """An accidental around a point: sharp, flat, double sharp, double flat."""
    if alter == 1:
        for dx in (-1.3, 1.3):
            canvas.line(x + dx, y - 5, x + dx, y + 5, 1.0)
        for dy in (-1.8, 1.8):
            canvas.line(x - 2.6, y + dy + 0.7, x + 2.6, y + dy - 0.7, 1.4)
    elif alter == -1:
        canvas.line(x - 1.6, y - 7, x - 1.6, y + 3, 1.0)
        canvas.oval(x + 0.4, y + 0.6, 2.2, 2.6, is_open=True)
    elif alter == 2:
        canvas.line(x - 2.6, y - 2.6, x + 2.6, y + 2.6, 1.6)
        canvas.line(x - 2.6, y + 2.6, x + 2.6, y - 2.6, 1.6)
    elif alter == -2:
        _sign(canvas, x - 1.8, y, -1)
        _sign(canvas, x + 2.0, y, -1)


def _note(canvas: Canvas, column: int, pitch: Pitch, duration: Fraction | None) -> None:
    x, y = 16 * column + 10.5, height(pitch.step)
    _sign(canvas, 16 * column + 3.2, y, pitch.alter)
    if pitch.step in (28, 40):
        canvas.line(x - 6, y, x + 5.5, y, 0.8, 150)
    eighths = None if duration is None else duration * 8
    is_open = eighths is not None and eighths >= 4
    canvas.oval(x, y, 3.8, 3.3, is_open=is_open)
    if eighths is None or eighths >= 8:
        return
    way = 1 if pitch.step < MIDDLE else -1
    stem = x + 3.3 * way
    canvas.line(stem, y, stem, y - 17 * way, 1.2)
    if eighths < 2:
        canvas.line(stem, y - 17 * way, stem + 3.4, y - 11 * way, 2.2)
    if eighths in (3, 6):
        canvas.oval(x + 5.2, y - 2.0, 1.4, 1.4)


@cache
def _notes_tile(notes: tuple[tuple[Pitch, Fraction | None], ...]) -> np.ndarray:
    canvas = Canvas()
    _staff(canvas)
    for column, (pitch, duration) in enumerate(notes):
        _note(canvas, column, pitch, duration)
    return canvas.tile()


@cache
def _signature_tile(fifths: int) -> np.ndarray:
    canvas = Canvas()
    _staff(canvas)
    order = SHARP_ORDER if fifths > 0 else SHARP_ORDER[::-1]
    places = _SHARP_PLACES if fifths > 0 else _FLAT_PLACES
    for index, letter in enumerate(order[: abs(fifths)]):
        _sign(canvas, 8 * index + 6, height(places[letter]), 1 if fifths > 0 else -1)
    return canvas.tile()


def fits(notes: Sequence[Pitch]) -> bool:
    """Whether a tile can show these notes."""
    return len(notes) <= COLUMNS and all(LOWEST <= pitch.step <= HIGHEST and abs(pitch.alter) <= 2 for pitch in notes)


def notes_tile(notes: Sequence[tuple[Pitch, Fraction | None]], rng: random.Random) -> bytes:
    """Up to four notes side by side as PNG bytes. Without a length a note is a bare head; with one it has stem, flag and dot.

    Lengths that a tile can tell apart: 1, 2, 3, 4, 6 and 8 eighths.
    """
    assert fits([pitch for pitch, _ in notes])
    return _png(_notes_tile(tuple(notes)), rng)


def signature_tile(key: Key, rng: random.Random) -> bytes:
    """A key signature alone, as PNG bytes."""
    return _png(_signature_tile(key.fifths), rng)


def _png(grey: np.ndarray, rng: random.Random) -> bytes:
    """On paper of its own tone with a little grain, as a scan has: no two prints are equal, byte for byte."""
    paper = np.array([rng.randint(236, 250) for _ in range(3)], dtype=np.float32)
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0.0, 3.0, grey.shape)
    page = grey[..., None].astype(np.float32) / 255.0 * paper + grain[..., None]
    out = io.BytesIO()
    Image.fromarray(np.clip(page, 0, 255).astype(np.uint8), "RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()
