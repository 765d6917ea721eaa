"""The scene in words and numbers, for models and questions without a picture, and the words of the prompt that no picture shows."""

from __future__ import annotations

from factory.domains.driving.scene import SIDES, Car, Scene

COMMAND_WORDS = {"straight": "go straight", "left": "turn left", "right": "turn right"}


def given(scene: Scene, style: str) -> str:
    """Speed, limit and navigation command: what the prompt states, with or without a picture."""
    if style == "terse":
        return f"v {scene.speed} lim {scene.limit} cmd {scene.command}"
    return (
        f"Your current speed is {scene.speed} m/s, the speed limit {scene.limit} m/s, "
        f"and the navigation command is '{COMMAND_WORDS[scene.command]}'."
    )


def describe(scene: Scene, style: str) -> str:
    """All that a picture of the scene would show, with distances in m and speeds in m/s."""
    parts = _terse(scene) if style == "terse" else _full(scene)
    return " ; ".join(parts) if style == "terse" else " ".join(parts)


def _terse(scene: Scene) -> list[str]:
    found = []
    if scene.light != "none":
        found.append(f"light {scene.light} {scene.line:.0f}")
    if scene.walker:
        found.append(f"walker {scene.line:.0f}")
    if scene.lead is not None:
        found.append(f"lead {_car(scene.lead)}")
    if scene.barrier is not None:
        found.append(f"barrier {scene.barrier:.0f}")
    for side in SIDES:
        lane = scene.lane(side)
        if lane is not None:
            cars = [f"{place} {_car(car)}" for place, car in (("front", lane.ahead), ("rear", lane.behind)) if car is not None]
            found.append(" ".join([f"{side} lane", *(cars or ["empty"])]))
    if scene.junction is not None:
        found.append(f"junction {scene.junction:.0f}")
    return found or ["road empty"]


def _car(car: Car) -> str:
    return f"{car.gap:.0f} at {car.speed:.0f}"


def _full(scene: Scene) -> list[str]:
    found = []
    if scene.light != "none":
        found.append(f"A {scene.light} traffic light, its stop line {scene.line:.1f} m ahead.")
    if scene.walker:
        found.append(f"A person on a crossing; the stop line is {scene.line:.1f} m ahead.")
    if scene.lead is not None:
        found.append(f"A car in our lane {scene.lead.gap:.1f} m ahead drives {scene.lead.speed:.1f} m/s.")
    if scene.barrier is not None:
        found.append(f"A barrier blocks our lane {scene.barrier:.1f} m ahead.")
    for side in SIDES:
        lane = scene.lane(side)
        if lane is None:
            found.append(f"There is no lane to our {side}.")
            continue
        cars = [f"{place} us by {car.gap:.1f} m at {car.speed:.1f} m/s" for place, car in (("ahead of", lane.ahead), ("behind", lane.behind))
                if car is not None]  # fmt: skip
        found.append(f"In the lane to our {side} there is " + (f"a car {' and one '.join(cars)}." if cars else "nobody."))
    if scene.junction is not None:
        found.append(f"A junction begins {scene.junction:.1f} m ahead.")
    return found
