"""The scene from above, 64 x 64 px: we drive upwards, 1 px is 0.9 m along the road and 0.25 m across it."""

from __future__ import annotations

from factory.domains.driving.facts import SLOWER
from factory.domains.driving.paint import (
    ASPHALT,
    BARRIER,
    BRAKES,
    CARS,
    GRASS,
    LAMPS,
    SIDE,
    WALKER,
    WHITE,
    Canvas,
    Colour,
    car_colours,
    shade,
)
from factory.domains.driving.scene import CAR_M, EGO_M, LANE_M, SIDES, Scene

LENGTH_PX_M, WIDTH_PX_M = 1.1, 4.0
"""px per metre along and across the road."""
OURS: Colour = (60, 60, 230)
BUMPER_PX = 50.0
"""Row of our front bumper."""


def top_view(scene: Scene) -> bytes:
    """PNG bytes of the scene from above. Pure: same scene, same bytes."""
    rng = car_colours(scene)
    canvas = Canvas(GRASS)
    half = LANE_M / 2
    left = half + (LANE_M if scene.left is not None else 0.0)
    right = -half - (LANE_M if scene.right is not None else 0.0)
    _patch(canvas, -20, 80, right, left, ASPHALT)
    if scene.junction is not None:
        _patch(canvas, scene.junction, scene.junction + 10, -10, 10, ASPHALT)
    for side, y in (("left", half), ("right", -half)):
        if scene.lane(side) is not None:
            for start in range(-18, 60, 6):
                _patch(canvas, start, start + 3, y - 0.12, y + 0.12, WHITE)
    if scene.line is not None:
        _patch(canvas, scene.line - 1, scene.line, -half, half, WHITE)
        if scene.light != "none":
            canvas.disc(*_at(scene.line, -half - 0.9), 3.0, LAMPS[scene.light])
    if scene.walker and scene.line is not None:
        canvas.disc(*_at(scene.line + 1.5, rng.uniform(-1.0, 1.0)), 2.5, WALKER)
    if scene.barrier is not None:
        _patch(canvas, scene.barrier, scene.barrier + 2.5, -1.6, 1.6, BARRIER)
    _car(canvas, -EGO_M[0], 0.0, OURS, False)
    if scene.lead is not None:
        _car(canvas, scene.lead.gap, 0.0, rng.choice(CARS), scene.lead.speed <= scene.speed - SLOWER)
    for side in SIDES:
        lane, y = scene.lane(side), LANE_M if side == "left" else -LANE_M
        if lane is not None and lane.ahead is not None:
            _car(canvas, lane.ahead.gap, y, rng.choice(CARS), False)
        if lane is not None and lane.behind is not None:
            _car(canvas, -EGO_M[0] - lane.behind.gap - CAR_M[0], y, rng.choice(CARS), False)
    return canvas.png(scene.texture)


def _at(x: float, y: float) -> tuple[float, float]:
    return SIDE / 2 - y * WIDTH_PX_M, BUMPER_PX - x * LENGTH_PX_M


def _patch(canvas: Canvas, x1: float, x2: float, y1: float, y2: float, colour: Colour) -> None:
    left, bottom = _at(x1, y2)
    right, top = _at(x2, y1)
    canvas.box(left, top, right, bottom, colour)


def _car(canvas: Canvas, x: float, y: float, colour: Colour, is_braking: bool) -> None:
    """A car whose rear bumper is at x."""
    half = CAR_M[1] / 2
    _patch(canvas, x, x + CAR_M[0], y - half, y + half, colour)
    _patch(canvas, x + 2.0, x + 3.0, y - 0.8 * half, y + 0.8 * half, shade(colour, 0.4))
    if is_braking:
        _patch(canvas, x - 0.6, x + 0.6, y - half, y - 0.2, BRAKES)
        _patch(canvas, x - 0.6, x + 0.6, y + 0.2, y + half, BRAKES)
