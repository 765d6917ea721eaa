"""The scene as a camera behind the windscreen sees it, 64 x 64 px. Mirrors at the lower corners show the lanes behind us."""

from __future__ import annotations

import random

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
from factory.domains.driving.rules import LEAST_GAP_M
from factory.domains.driving.scene import CAR_M, LANE_M, SIDES, Car, Scene

FOCUS_PX = 60.0
HORIZON_PX = 24.0
EYE_M = 1.8
"""Height of the camera above the road."""
BACK_M = 1.5
"""The camera stands this far behind the front bumper."""
FAR_M, CLOSE_M = 400.0, 0.9
SKY: Colour = (168, 200, 232)


def _at(x: float, y: float, z: float = 0.0) -> tuple[float, float]:
    """(column, row) in px of a point x m ahead of the bumper, y m to the left and z m above the road."""
    depth = max(x + BACK_M, 0.5)
    return SIDE / 2 - FOCUS_PX * y / depth, HORIZON_PX + FOCUS_PX * (EYE_M - z) / depth


def front_view(scene: Scene) -> bytes:
    """PNG bytes of the scene from the driver's seat. Pure: same scene, same bytes."""
    rng = car_colours(scene)
    canvas = Canvas(SKY)
    canvas.box(0, HORIZON_PX, SIDE, SIDE, GRASS)
    _road(canvas, scene)
    for _, draw in sorted(_things(scene, rng), key=lambda thing: -thing[0]):
        draw(canvas)
    _mirrors(canvas, scene, rng)
    return canvas.png(scene.texture)


def _strip(canvas: Canvas, x1: float, x2: float, y1: float, y2: float, colour: Colour) -> None:
    """A flat patch of road from x1 to x2 m ahead, y1 to y2 m to the left."""
    canvas.polygon([_at(x1, y1), _at(x1, y2), _at(x2, y2), _at(x2, y1)], colour)


def _road(canvas: Canvas, scene: Scene) -> None:
    half = LANE_M / 2
    left = half + (LANE_M if scene.left is not None else 0.0)
    right = -half - (LANE_M if scene.right is not None else 0.0)
    _strip(canvas, CLOSE_M, FAR_M, right, left, ASPHALT)
    if scene.junction is not None:
        _strip(canvas, scene.junction, scene.junction + 12.0, -200.0, 200.0, ASPHALT)
    for y in (left, right):
        _line(canvas, scene, y, 0.14)
    for side, y in (("left", half), ("right", -half)):
        if scene.lane(side) is not None:
            for start in range(1, 80, 6):
                _strip(canvas, start, start + 2.5, y - 0.1, y + 0.1, WHITE)
    if scene.line is not None:
        _strip(canvas, scene.line - 0.8, scene.line, -half, half, WHITE)
    if scene.walker and scene.line is not None:
        for stripe in range(-3, 4):
            _strip(canvas, scene.line + 0.8, scene.line + 3.0, stripe - 0.25, stripe + 0.25, WHITE)


def _line(canvas: Canvas, scene: Scene, y: float, half: float) -> None:
    """An edge line, broken by the junction."""
    parts = [(CLOSE_M, FAR_M)]
    if scene.junction is not None:
        parts = [(CLOSE_M, scene.junction), (scene.junction + 12.0, FAR_M)]
    for start, end in parts:
        _strip(canvas, start, end, y - half, y + half, WHITE)


def _things(scene: Scene, rng: random.Random):
    """(distance, function that draws it) of everything that stands on the road."""
    found = []
    if scene.lead is not None:
        found.append((scene.lead.gap, _rear(scene.lead, 0.0, rng.choice(CARS), scene.lead.speed <= scene.speed - SLOWER)))
    for side in SIDES:
        lane, y = scene.lane(side), LANE_M if side == "left" else -LANE_M
        if lane is not None and lane.ahead is not None:
            found.append((lane.ahead.gap, _rear(lane.ahead, y, rng.choice(CARS), False)))
    if scene.light != "none" and scene.line is not None:
        found.append((scene.line + 0.5, _light(scene.light, scene.line + 0.5)))
    if scene.walker and scene.line is not None:
        found.append((scene.line + 1.5, _walker(scene.line + 1.5, rng.uniform(-1.0, 1.0))))
    if scene.barrier is not None:
        found.append((scene.barrier, _barrier(scene.barrier)))
    return found


def _rear(car: Car, y: float, colour: Colour, is_braking: bool):
    """The back of a car: body, window, lamps (bright and wide while it brakes)."""

    def draw(canvas: Canvas) -> None:
        half = CAR_M[1] / 2
        if y:
            _flank(canvas, car.gap, y - half if y > 0 else y + half, shade(colour, 0.8))
        left, bottom = _at(car.gap, y + half)
        right, top = _at(car.gap, y - half, 1.5)
        width, height = right - left, bottom - top
        canvas.box(left, top + 0.25 * height, right, bottom - 0.1 * height, colour)
        canvas.box(left + 0.12 * width, top, right - 0.12 * width, top + 0.3 * height, shade(colour, 0.5))
        canvas.box(left + 0.05 * width, bottom - 0.12 * height, right - 0.05 * width, bottom, (20, 20, 20))
        lamp = max(1.0, 0.28 * width) if is_braking else max(0.5, 0.1 * width)
        shine = BRAKES if is_braking else (120, 20, 20)
        low = top + (0.35 if is_braking else 0.45) * height
        tall = max(1.0, (0.3 if is_braking else 0.15) * height)
        canvas.box(left, low, left + lamp, low + tall, shine)
        canvas.box(right - lamp, low, right, low + tall, shine)

    return draw


def _flank(canvas: Canvas, x: float, y: float, colour: Colour) -> None:
    """The side of a car beside our lane that faces us; its rear may be out of the picture."""
    near, far = max(x, -0.8), x + CAR_M[0]
    canvas.polygon([_at(near, y), _at(far, y), _at(far, y, 1.4), _at(near, y, 1.4)], colour)
    canvas.polygon([_at(near, y), _at(far, y), _at(far, y, 0.3), _at(near, y, 0.3)], (20, 20, 20))


def _light(colour: str, x: float):
    """A lamp on a pole at the right side of our lane; drawn larger than life so that it can be seen."""

    def draw(canvas: Canvas) -> None:
        foot_x, foot_y = _at(x, -LANE_M / 2 - 0.4)
        _, top = _at(x, 0.0, 4.2)
        foot_x, top = min(foot_x, SIDE - 5.0), max(top, 5.0)
        radius = min(4.5, max(2.0, 0.6 * FOCUS_PX / (x + BACK_M)))
        canvas.box(foot_x - 0.5, top, foot_x + 0.5, foot_y, (60, 60, 60))
        canvas.box(foot_x - radius - 1, top - radius - 1, foot_x + radius + 1, top + radius + 1, (25, 25, 25))
        canvas.disc(foot_x, top, radius, LAMPS[colour])

    return draw


def _walker(x: float, y: float):
    def draw(canvas: Canvas) -> None:
        foot_x, foot_y = _at(x, y)
        _, top = _at(x, y, 1.8)
        height = max(4.0, foot_y - top)
        canvas.box(foot_x - 0.18 * height, foot_y - 0.75 * height, foot_x + 0.18 * height, foot_y, WALKER)
        canvas.disc(foot_x, foot_y - 0.86 * height, 0.14 * height, (250, 215, 180))

    return draw


def _barrier(x: float):
    def draw(canvas: Canvas) -> None:
        left, bottom = _at(x, 1.5)
        right, top = _at(x, -1.5, 1.1)
        top = min(top, bottom - 2.5)
        for part in range(6):
            width = (right - left) / 6
            canvas.box(left + part * width, top, left + (part + 1) * width, bottom, WHITE if part % 2 else BARRIER)

    return draw


def _mirrors(canvas: Canvas, scene: Scene, rng: random.Random) -> None:
    """One mirror for each lane beside ours: grey when nobody is behind, a small car when one is far, a large one when it is close."""
    for side in SIDES:
        lane = scene.lane(side)
        if lane is None:
            continue
        left = 1.0 if side == "left" else SIDE - 12.0
        canvas.box(left - 1, SIDE - 11, left + 12, SIDE, (15, 15, 15))
        canvas.box(left, SIDE - 10, left + 11, SIDE - 1, shade(ASPHALT, 1.3))
        if lane.behind is not None:
            colour = rng.choice(CARS)
            half, height = (4.5, 7.0) if lane.behind.gap < LEAST_GAP_M else (1.2, 2.0)
            middle = left + 5.5
            canvas.box(middle - half, SIDE - 2 - height, middle + half, SIDE - 2, colour)
            canvas.box(
                middle - 0.8 * half, SIDE - 2 - 0.9 * height, middle + 0.8 * half, SIDE - 2 - 0.6 * height, shade(colour, 0.4)
            )
