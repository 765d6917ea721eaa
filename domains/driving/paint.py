"""Shared parts of the drawings: colours, an antialiased canvas, PNG bytes."""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image, ImageDraw

from factory.domains.driving.scene import Scene

SIDE = 64
"""Side of a drawing in px."""
FINE = 2
"""Drawn this many times larger, then averaged down."""

Colour = tuple[int, int, int]
ASPHALT: Colour = (92, 94, 99)
GRASS: Colour = (74, 122, 66)
WHITE: Colour = (236, 236, 230)
LAMPS: dict[str, Colour] = {"red": (255, 38, 30), "green": (40, 240, 90)}
BRAKES: Colour = (255, 30, 30)
WALKER: Colour = (245, 160, 30)
BARRIER: Colour = (250, 110, 20)
CARS: tuple[Colour, ...] = ((40, 70, 150), (230, 230, 232), (35, 35, 40), (120, 125, 130), (30, 100, 110), (150, 150, 60))
NOISE = 4.0
"""Standard deviation of the camera noise, of 255."""


class Canvas:
    """A drawing in px of the final picture; coordinates may be fractions."""

    def __init__(self, ground: Colour) -> None:
        self.image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), ground)
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon of (column, row) points."""
        self.pen.polygon([(x * FINE, y * FINE) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle; at least one fine pixel in each direction."""
        x1, y1 = round(left * FINE), round(top * FINE)
        self.pen.rectangle((x1, y1, max(x1, round(right * FINE) - 1), max(y1, round(bottom * FINE) - 1)), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self.pen.ellipse(((x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE), fill=colour)

    def png(self, texture: int) -> bytes:
        """PNG bytes of the picture with camera noise from this seed. Equal drawings give equal bytes."""
        small = np.asarray(self.image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
        noise = np.random.default_rng(texture).standard_normal((SIDE, SIDE, 1), dtype=np.float32) * NOISE
        out = io.BytesIO()
        Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8), "RGB").save(out, "PNG", compress_level=1)
        return out.getvalue()


def car_colours(scene: Scene) -> random.Random:
    """A stream of colours that depends on the scene alone."""
    return random.Random(scene.texture)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker or lighter."""
    r, g, b = (min(255, round(part * factor)) for part in colour)
    return r, g, b
