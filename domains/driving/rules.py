"""Which meta-actions a scene asks for, by rules with margins, and how near the scene is to another answer.

The rules are a teaching device, not driving advice. Path: the navigation command, a junction within three seconds, and gap
acceptance in the lane beside. Speed: what the Intelligent Driver Model does to the speed within three seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from factory.domains.driving.actions import HORIZON_S
from factory.domains.driving.following import Ahead, speed_after
from factory.domains.driving.scene import SIDES, Scene, SideLane

SPEED_CHANGE = 0.75
"""m/s within three seconds from which a plan accelerates or decelerates (the bound that the comma2k19 labels use)."""
STANDING = 0.5
"""m/s below which a car has stopped."""
TURN_SPEED = 5.0
"""Desired speed through a turn, m/s."""
MARGIN = 0.1
"""Scenes this near a threshold (share of it) are refused."""
LEAST_GAP_M = 4.0
"""Gap that a lane change needs at equal speeds, ahead and behind; closing speeds add three seconds of closing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and how clear it is."""

    speed: str
    path: str
    clearance: float
    """Distance to the nearest threshold, as a share of that threshold."""
    end_speed: float
    """Speed after three seconds by the driver model, m/s."""


def needed_gap(speed: float, other: float, is_behind: bool) -> float:
    """Gap in m that a change into a lane needs to a car there: 4 m, and three seconds of closing."""
    closing = other - speed if is_behind else speed - other
    return LEAST_GAP_M + HORIZON_S * max(0.0, closing)


def lane_margins(scene: Scene, lane: SideLane) -> tuple[float, float]:
    """(gap over needed gap) - 1 ahead and behind; positive where the gap is accepted. 9 where there is no car."""
    ahead = 9.0 if lane.ahead is None else lane.ahead.gap / needed_gap(scene.speed, lane.ahead.speed, False) - 1
    behind = 9.0 if lane.behind is None else lane.behind.gap / needed_gap(scene.speed, lane.behind.speed, True) - 1
    return ahead, behind


def lane_state(scene: Scene, side: str) -> str:
    """`none` (no lane), `free` or `busy`."""
    lane = scene.lane(side)
    if lane is None:
        return "none"
    return "free" if min(lane_margins(scene, lane)) >= 0 else "busy"


def path_of(scene: Scene) -> str:
    """Turn where the commanded junction comes within three seconds; else change lane where command or barrier asks and the gap allows."""
    if scene.hold is not None:
        return "STRAIGHT"
    side = scene.command if scene.command in SIDES else ""
    if side and scene.junction is not None and scene.junction <= HORIZON_S * scene.speed:
        return f"{side.upper()}_TURN"
    wanted = (side, *SIDES) if scene.barrier is not None else (side,)
    for wish in wanted:
        if wish and lane_state(scene, wish) == "free":
            return f"{wish.upper()}_CHANGE"
    return "STRAIGHT"


def things_ahead(scene: Scene, path: str) -> list[Ahead]:
    """What limits the speed on this path."""
    if path.endswith("CHANGE"):
        lane = scene.lane(path.split("_")[0].lower())
        return [] if lane is None or lane.ahead is None else [Ahead(lane.ahead.gap, lane.ahead.speed)]
    found = [] if scene.lead is None else [Ahead(scene.lead.gap, scene.lead.speed)]
    return found + [Ahead(gap) for gap in (scene.barrier, scene.hold) if gap is not None]


def desired_speed(scene: Scene, path: str) -> float:
    """The limit, or the lower speed of a turn."""
    return min(scene.limit, TURN_SPEED) if path.endswith("TURN") else float(scene.limit)


def speed_label(before: float, after: float) -> str:
    """The speed action of a change of speed within three seconds, both in m/s."""
    if after < STANDING:
        return "STOP"
    change = after - before
    return "ACCELERATE" if change > SPEED_CHANGE else "DECELERATE" if change < -SPEED_CHANGE else "KEEP"


def decide(scene: Scene) -> Decision:
    """Actions of a scene and the distance to the nearest threshold that they depend on."""
    path = path_of(scene)
    after = speed_after(scene.speed, desired_speed(scene, path), things_ahead(scene, path), HORIZON_S)
    change = abs(after - scene.speed)
    distances = [abs(after - STANDING) / STANDING]
    if after >= STANDING:
        distances.append(abs(change - SPEED_CHANGE) / SPEED_CHANGE)
    if scene.hold is None:
        distances += _path_distances(scene)
    return Decision(speed_label(scene.speed, after), path, min(distances), after)


def _path_distances(scene: Scene) -> list[float]:
    found = []
    if scene.command in SIDES and scene.junction is not None and scene.speed > 0:
        found.append(abs(scene.junction / (HORIZON_S * scene.speed) - 1))
    for side in SIDES:
        lane = scene.lane(side)
        if lane is not None:
            found += [abs(margin) for margin in lane_margins(scene, lane)]
    return found
