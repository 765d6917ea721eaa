"""Waypoints: where our car will be, in metres ahead and to the left of where it is now."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from factory.domains.driving.actions import HORIZON_S
from factory.domains.driving.following import DT_S
from factory.domains.driving.scene import EGO_M, Scene
from factory.domains.driving.simulator import MAX_ACCEL, MAX_DECEL, STEPS, Pose, drive

Point = tuple[float, float]
RATES = {"terse": 1, "full": 2}
"""Style -> points a second: 3 whole-number points for the embedded model, 6 with one decimal (nuScenes' 2 Hz) otherwise."""


def way(scene: Scene, plan: tuple[str, str], rate: int) -> list[Point]:
    """`3 * rate` points (ahead, left) in m of the front bumper's centre, relative to now."""
    poses = drive(scene, *plan)
    steps = [round(index * STEPS / (HORIZON_S * rate)) for index in range(1, round(HORIZON_S * rate) + 1)]
    return [(poses[step].x + EGO_M[0] / 2, poses[step].y) for step in steps]


def rounded(points: Sequence[Point], style: str) -> list[list[float]]:
    """Points as the style gives them: whole metres, or one decimal."""
    digits = 0 if style == "terse" else 1
    return [[_plain(round(x, digits)), _plain(round(y, digits))] for x, y in points]


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value


def way_text(scene: Scene, plan: tuple[str, str], style: str) -> str:
    """The points of a plan as JSON."""
    return json.dumps(rounded(way(scene, plan, RATES[style]), style))


def check_points(value: Any) -> list[Point]:
    """Points from a list of pairs. Raises ValueError for anything else, and for numbers that are not finite."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError("want a list of points [ahead, left]")
    points = []
    for item in value:
        numbers = item if isinstance(item, Sequence) and not isinstance(item, str) else ()
        if len(numbers) != 2 or not all(
            isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in numbers
        ):
            raise ValueError(f"want points of two finite numbers, got {str(item)[:40]!r}")
        points.append((float(numbers[0]), float(numbers[1])))
    return points


def read_points(text: str, count: int) -> list[Point]:
    """Points of an answer: a JSON list of pairs, with nothing around it. Raises ValueError unless there are exactly `count`."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        raise ValueError("not a JSON list of points") from err
    points = check_points(value)
    if len(points) != count:
        raise ValueError(f"{len(points)} points, want {count}")
    return points


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def way_comfort(points: Sequence[Point], rate: int, speed: float) -> float:
    """1 when the mean speeds between points change within the comfort bounds, else 0. Finer jerks cannot be seen at this rate."""
    corners = [(0.0, 0.0), *points]
    speeds = [speed, *(math.dist(a, b) * rate for a, b in pairwise(corners))]
    rates = [(after - before) * rate for before, after in pairwise(speeds)]
    return float(all(-MAX_DECEL <= value <= MAX_ACCEL for value in rates))


def poses_along(points: Sequence[Point], rate: int, speed: float) -> list[Pose]:
    """Poses every 0.1 s of a car that goes from here through the points in straight lines, for the simulator.

    Args:
        rate: points a second.
        speed: speed now, m/s; later speeds follow from the points.
    """
    corners = [(0.0, 0.0), *points]
    per_leg = round(1 / (rate * DT_S))
    heading, poses = 0.0, [Pose(-EGO_M[0] / 2, 0.0, 0.0, speed)]
    for (x1, y1), (x2, y2) in pairwise(corners):
        length = math.dist((x1, y1), (x2, y2))
        heading = math.atan2(y2 - y1, x2 - x1) if length > 0.1 else heading
        for step in range(1, per_leg + 1):
            share = step / per_leg
            poses.append(Pose(x1 + share * (x2 - x1) - EGO_M[0] / 2, y1 + share * (y2 - y1), heading, length * rate))
    return poses
