"""What one sees in a scene, in a few closed words. Captions, reasoning and perception questions are made of these."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from factory.domains.driving.actions import HORIZON_S
from factory.domains.driving.rules import lane_state
from factory.domains.driving.scene import SIDES, Scene

NEAR_M = 12.0
"""Distance below which a line, lead or barrier is near."""
SLOWER = 2.0
"""m/s below our speed from which the car ahead shows brake lights; between this and `SAME` no car is drawn."""
SAME = 0.5

VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "light": ("none", "green", "red"),
        "walker": ("none", "near", "far"),
        "lead": ("none", "near", "far"),
        "brakes": ("off", "on"),
        "barrier": ("none", "near", "far"),
        "left": ("none", "free", "busy"),
        "right": ("none", "free", "busy"),
        "junction": ("none", "near", "far"),
    }
)
"""Fact -> its values. `brakes` exists only behind a car; `junction` is near when it comes within three seconds."""
PHRASES: Mapping[str, str] = MappingProxyType(
    {
        "light": "the traffic light", "walker": "a person on the crossing", "lead": "the car ahead in our lane",
        "brakes": "the brake lights of the car ahead", "barrier": "a barrier across our lane", "left": "the lane to our left",
        "right": "the lane to our right", "junction": "the junction",
    }
)  # fmt: skip


def distance_word(metres: float | None) -> str:
    """`none`, `near` or `far`."""
    return "none" if metres is None else "near" if metres < NEAR_M else "far"


def facts(scene: Scene) -> dict[str, str]:
    """Every fact of the scene, in the order of VALUES; `brakes` only where there is a car ahead."""
    found = {"light": scene.light, "walker": distance_word(scene.line) if scene.walker else "none"}
    found["lead"] = distance_word(scene.lead.gap if scene.lead else None)
    if scene.lead is not None:
        found["brakes"] = "on" if scene.lead.speed <= scene.speed - SLOWER else "off"
    found["barrier"] = distance_word(scene.barrier)
    found |= {side: lane_state(scene, side) for side in SIDES}
    junction = scene.junction
    found["junction"] = "none" if junction is None else "near" if junction <= HORIZON_S * scene.speed else "far"
    return found


def pace(scene: Scene) -> str:
    """Our speed against the limit: `under`, `at` (within 1 m/s) or `over`."""
    difference = scene.speed - scene.limit
    return "under" if difference < -1 else "over" if difference > 1 else "at"


def is_clear(scene: Scene) -> bool:
    """False when a word depends on less than a tenth of its bound: such a scene cannot be judged by eye."""
    near = [x for x in (scene.line, scene.barrier, scene.lead.gap if scene.lead else None) if x is not None]
    if any(abs(x - NEAR_M) < 0.1 * NEAR_M for x in near):
        return False
    if scene.lead is not None and scene.speed - SLOWER < scene.lead.speed < scene.speed - SAME:
        return False
    return scene.junction is None or scene.speed == 0 or abs(scene.junction / (HORIZON_S * scene.speed) - 1) >= 0.1
