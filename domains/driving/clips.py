"""From a recorded drive to questions: speed and path actions and waypoints of the three seconds that follow a moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.domains.driving.actions import HORIZON_S
from factory.domains.driving.rules import speed_label
from factory.domains.driving.waypoints import Point

TURN_RAD = math.radians(20.0)
"""Change of heading within three seconds from which a drive turns (ours)."""
CHANGE_M = 2.0
"""Way to the side, beyond that of the bend itself, from which a drive changes lane (ours)."""
COMMAND_M = 2.0
"""Way to the side after three seconds that makes the command of open-loop planning left or right (VAD's convention)."""
RATE = 2
"""Waypoints a second."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Three seconds after one moment: what was driven."""

    speed_before: float
    """m/s at the moment."""
    speed_after: float
    turned: float
    """Change of heading in radians, positive left."""
    points: tuple[Point, ...]
    """(ahead, left) in m at 0.5, 1.0 ... 3.0 s, in the car's frame at the moment."""

    @property
    def speed(self) -> str:
        """The speed action."""
        return speed_label(self.speed_before, self.speed_after)

    @property
    def path(self) -> str:
        """The path action, by heading and the way to the side."""
        if abs(self.turned) >= TURN_RAD:
            return "LEFT_TURN" if self.turned > 0 else "RIGHT_TURN"
        ahead, left = self.points[-1]
        beyond_bend = left - math.hypot(ahead, left) * self.turned / 2
        if abs(beyond_bend) >= CHANGE_M:
            return "LEFT_CHANGE" if beyond_bend > 0 else "RIGHT_CHANGE"
        return "STRAIGHT"

    @property
    def command(self) -> str:
        """Navigation command as open-loop planning derives it from the drive itself: it knows the future."""
        left = self.points[-1][1]
        return "left" if left >= COMMAND_M else "right" if left <= -COMMAND_M else "straight"


def in_car_frame(origin: Point, heading: float, points: Sequence[Point]) -> tuple[Point, ...]:
    """World points (x, y) as (ahead, left) of a car at `origin` with this heading in radians, rounded to a centimetre."""
    c, s = math.cos(heading), math.sin(heading)
    found = []
    for x, y in points:
        dx, dy = x - origin[0], y - origin[1]
        found.append((round(dx * c + dy * s, 2), round(dy * c - dx * s, 2)))
    return tuple(found)


def wrapped(angle: float) -> float:
    """The angle in radians in (-pi, pi]."""
    return math.pi - (math.pi - angle) % math.tau


def times_after(start: float) -> list[float]:
    """Times in s of the waypoints."""
    return [start + step / RATE for step in range(1, round(HORIZON_S * RATE) + 1)]
