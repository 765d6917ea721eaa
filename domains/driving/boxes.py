"""Rectangles on the ground and whether two of them overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """Centre in m, heading in radians, length along the heading and width in m."""

    x: float
    y: float
    heading: float
    length: float
    width: float

    def corners(self) -> tuple[tuple[float, float], ...]:
        """The four corners in order."""
        c, s, a, b = math.cos(self.heading), math.sin(self.heading), self.length / 2, self.width / 2
        return tuple((self.x + u * c - v * s, self.y + u * s + v * c) for u, v in ((a, b), (-a, b), (-a, -b), (a, -b)))


def overlap(one: Box, other: Box) -> bool:
    """Whether the rectangles share area (separating axis test); touching edges do not count."""
    reach = (math.hypot(one.length, one.width) + math.hypot(other.length, other.width)) / 2
    if math.hypot(one.x - other.x, one.y - other.y) >= reach:
        return False
    if one.heading == 0.0 == other.heading:
        is_apart_x = abs(one.x - other.x) >= (one.length + other.length) / 2 - 1e-9
        return not (is_apart_x or abs(one.y - other.y) >= (one.width + other.width) / 2 - 1e-9)
    first, second = one.corners(), other.corners()
    for heading in (one.heading, one.heading + math.pi / 2, other.heading, other.heading + math.pi / 2):
        c, s = math.cos(heading), math.sin(heading)
        a, b = [x * c + y * s for x, y in first], [x * c + y * s for x, y in second]
        if max(a) <= min(b) + 1e-9 or max(b) <= min(a) + 1e-9:
            return False
    return True
