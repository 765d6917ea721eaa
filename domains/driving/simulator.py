"""What a plan leads to: three seconds of the scene with the plan carried out, and the terms that judge it.

Open loop: the others keep their speeds and lanes. The terms are named after NAVSIM's; their combination here is
`pdm_proxy`, a stand-in on our own scenes that must not be called PDMS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from factory.domains.driving.actions import HORIZON_S
from factory.domains.driving.boxes import Box, overlap
from factory.domains.driving.following import DT_S
from factory.domains.driving.rules import desired_speed
from factory.domains.driving.scene import CAR_M, EGO_M, LANE_M, SIDES, Car, Scene

ACCELERATIONS = {"KEEP": 0.0, "ACCELERATE": 1.5, "DECELERATE": -2.5}
"""m/s^2 while a speed action is carried out; STOP brakes at 3, harder where 2.5 s would not do."""
SLOW, SLOW_IN_TURN = 2.0, 4.0
"""m/s at which DECELERATE ends."""
TURN_RADIUS_M = {"LEFT_TURN": 9.0, "RIGHT_TURN": 6.0}
MAX_ACCEL, MAX_DECEL, MAX_LATERAL = 2.4, 4.05, 4.89
"""Comfort bounds, m/s^2 (those of nuPlan's metrics)."""
TTC_S = 0.9
"""A collision within this time at constant velocity fails the time-to-collision term."""
LEAST_ROOM_M = 3.2
"""Room to the cars ahead and behind after a lane change; less fails the time-to-collision term."""
CHANGE_S = 3.0
"""Seconds of a lane change."""
STEPS = round(HORIZON_S / DT_S)
SHORT_WAY_M = 5.0
"""Where the reference goes less far than this, progress is not judged."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Our car at one time: centre of the box in m, heading in radians (0 ahead, positive left), speed in m/s."""

    x: float
    y: float
    heading: float
    speed: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Terms of one rollout; each 1 when all is well."""

    no_collision: float
    drivable: float
    lights: float
    time_to_collision: float
    comfort: float
    progress: float
    """Way over the reference's way, at most 1."""

    @property
    def pdm_proxy(self) -> float:
        """no_collision x drivable x lights x (5 ttc + 2 comfort + 5 progress) / 12."""
        gate = self.no_collision * self.drivable * self.lights
        return gate * (5 * self.time_to_collision + 2 * self.comfort + 5 * self.progress) / 12

    @property
    def is_safe(self) -> bool:
        """No collision, none near, no red line crossed, on the road."""
        return self.no_collision * self.drivable * self.lights * self.time_to_collision == 1

    @property
    def fault(self) -> str:
        """The first thing that goes wrong: `hits`, `runs` (a red line), `leaves` (the road), `tight` (nearly hits), or `clean`."""
        for word, term in (("hits", self.no_collision), ("runs", self.lights), ("leaves", self.drivable), ("tight", self.time_to_collision)):  # fmt: skip
            if term < 1:
                return word
        return "clean"


def speed_profile(speed: float, action: str, path: str, top: float) -> list[float]:
    """Speeds in m/s at 0, 0.1 ... 3 s while the action is carried out; not raised above `top`, nor lowered below SLOW unless to stop."""
    rate = -max(3.0, speed / 2.5) if action == "STOP" else ACCELERATIONS[action]
    floor = 0.0 if action == "STOP" else min(speed, SLOW_IN_TURN if path.endswith("TURN") else SLOW)
    return [min(max(floor, speed + rate * DT_S * step), max(speed, top)) for step in range(STEPS + 1)]


@lru_cache(maxsize=4096)
def drive(scene: Scene, speed: str, path: str) -> tuple[Pose, ...]:
    """Poses at 0, 0.1 ... 3 s of the plan."""
    speeds = speed_profile(scene.speed, speed, path, desired_speed(scene, path))
    way, poses = 0.0, []
    for step, now in enumerate(speeds):
        way += (speeds[step - 1] + now) / 2 * DT_S if step else 0.0
        poses.append(_pose(scene, path, way, step * DT_S, now))
    return tuple(poses)


def _pose(scene: Scene, path: str, way: float, time_s: float, speed: float) -> Pose:
    back = EGO_M[0] / 2
    if path.endswith("CHANGE"):
        side = 1.0 if path.startswith("LEFT") else -1.0
        share = min(1.0, time_s / CHANGE_S)
        y = side * LANE_M * (1 - math.cos(math.pi * share)) / 2
        slope = side * LANE_M * math.pi * math.sin(math.pi * share) / 2 / CHANGE_S
        return Pose(way - back, y, math.atan2(slope, max(speed, 1.0)), speed)
    if path.endswith("TURN"):
        start = scene.junction if scene.junction is not None else 0.0
        side, radius = (1.0 if path.startswith("LEFT") else -1.0), TURN_RADIUS_M[path]
        angle = min(max(0.0, way - start) / radius, math.pi / 2)
        beyond = max(0.0, way - start - radius * math.pi / 2)
        if angle > 0:
            x = start + radius * math.sin(angle)
            y = side * (radius * (1 - math.cos(angle)) + beyond)
            return Pose(x - back, y, side * angle, speed)
    return Pose(way - back, 0.0, 0.0, speed)


def evaluate(scene: Scene, speed: str, path: str, reference: tuple[str, str] | None = None) -> Outcome:
    """Carry a plan out and judge it.

    Args:
        reference: the plan whose way counts as full progress; None: no judgement of progress.
    """
    poses = drive(scene, speed, path)
    full = _way(drive(scene, *reference)) if reference is not None else 0.0
    progress = 1.0 if full < SHORT_WAY_M else min(1.0, _way(poses) / full)
    is_drivable = 1.0 if _stays_on_road(scene, path, poses) else 0.0
    found = judge(scene, poses, drivable=is_drivable, progress=progress)
    if path.endswith("CHANGE") and _squeezes_in(scene, poses[-1]):
        found = replace(found, time_to_collision=0.0)
    return found


def judge(
    scene: Scene, poses: Sequence[Pose], *, drivable: float = 1.0, progress: float = 1.0, comfort: float | None = None
) -> Outcome:
    """The terms of any trajectory, sampled every 0.1 s from now. `comfort` is judged from the poses unless it is given."""
    hit = close = False
    for step, pose in enumerate(poses):
        others = things_at(scene, step * DT_S)
        ours = _ego(pose)
        hit = hit or any(overlap(ours, box) for box, _ in others)
        if step % LOOK_EVERY == 0 and pose.speed > STANDSTILL and not close:
            close = any(_meets(pose, box, velocity) for box, velocity in others)
    crossed = scene.light == "red" and scene.line is not None and max(p.x for p in poses) + EGO_M[0] / 2 > scene.line
    return Outcome(
        float(not hit), drivable, float(not crossed), float(not (hit or close)), float(_is_comfortable(poses)) if comfort is None else comfort, progress,
    )  # fmt: skip


def _squeezes_in(scene: Scene, pose: Pose) -> bool:
    """Whether a lane change ends nearer than LEAST_ROOM_M to a car of that lane: no collision yet, but no room for one mistake either."""
    same_lane = [box for box, _ in things_at(scene, HORIZON_S) if abs(box.y - pose.y) < LANE_M / 2]
    return any(abs(box.x - pose.x) - (box.length + EGO_M[0]) / 2 < LEAST_ROOM_M for box in same_lane)


LOOK_EVERY = 3
"""Steps between two looks ahead for a collision."""
STANDSTILL = 0.3
"""m/s below which a car is not driving into anything."""


def things_at(scene: Scene, time_s: float) -> list[tuple[Box, float]]:
    """Boxes of everything that can be hit at a time, with their speeds along x."""
    found = [] if scene.lead is None else [_ahead(scene.lead, 0.0, time_s)]
    for side in SIDES:
        lane = scene.lane(side)
        y = LANE_M if side == "left" else -LANE_M
        if lane is not None and lane.ahead is not None:
            found.append(_ahead(lane.ahead, y, time_s))
        if lane is not None and lane.behind is not None:
            x = -EGO_M[0] - lane.behind.gap - CAR_M[0] / 2 + lane.behind.speed * time_s
            found.append((Box(x, y, 0.0, *CAR_M), lane.behind.speed))
    if scene.barrier is not None:
        found.append((Box(scene.barrier + 0.25, 0.0, 0.0, 0.5, 3.0), 0.0))
    if scene.walker and scene.line is not None:
        found.append((Box(scene.line + 1.5, 0.0, 0.0, 1.0, 2.5), 0.0))
    return found


def _ahead(car: Car, y: float, time_s: float) -> tuple[Box, float]:
    return Box(car.gap + CAR_M[0] / 2 + car.speed * time_s, y, 0.0, *CAR_M), car.speed


def _ego(pose: Pose, shift_s: float = 0.0) -> Box:
    x = pose.x + pose.speed * math.cos(pose.heading) * shift_s
    y = pose.y + pose.speed * math.sin(pose.heading) * shift_s
    return Box(x, y, pose.heading, *EGO_M)


def _meets(pose: Pose, box: Box, velocity: float) -> bool:
    """Whether both, going on as they go, meet within TTC_S; being run into from behind is not ours."""
    if box.x < pose.x or box.x - pose.x > pose.speed * TTC_S + box.length + EGO_M[0]:
        return False
    times = (TTC_S / 3, TTC_S * 2 / 3, TTC_S)
    return any(overlap(_ego(pose, t), Box(box.x + velocity * t, box.y, 0.0, box.length, box.width)) for t in times)


def _stays_on_road(scene: Scene, path: str, poses: Sequence[Pose]) -> bool:
    if path.endswith("CHANGE"):
        return scene.lane(path.split("_")[0].lower()) is not None
    if path.endswith("TURN"):
        return scene.junction is not None
    return True


def _is_comfortable(poses: Sequence[Pose]) -> bool:
    for before, after in pairwise(poses):
        rate = (after.speed - before.speed) / DT_S
        lateral = abs(after.heading - before.heading) / DT_S * after.speed
        if not -MAX_DECEL - 1e-6 <= rate <= MAX_ACCEL + 1e-6 or lateral > MAX_LATERAL:
            return False
    return True


def _way(poses: Sequence[Pose]) -> float:
    return sum(math.dist((a.x, a.y), (b.x, b.y)) for a, b in pairwise(poses))
