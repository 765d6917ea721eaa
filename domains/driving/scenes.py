"""Draw random scenes: for a wanted pair of actions, or freely. Scenes near a threshold are refused, and so are plans that end badly."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from factory.domains.driving.actions import HORIZON_S, SPEEDS
from factory.domains.driving.facts import is_clear
from factory.domains.driving.rules import MARGIN, Decision, decide
from factory.domains.driving.scene import COMMANDS, SIDES, Car, Scene, SideLane
from factory.domains.driving.simulator import evaluate

LIMITS = (8, 10, 12, 14, 17)
"""Speed limits, m/s (about 30 to 60 km/h)."""
MAX_DRAWS = 3000
FEASIBLE = {
    "STRAIGHT": SPEEDS, "LEFT_TURN": SPEEDS[:3], "RIGHT_TURN": SPEEDS[:3], "LEFT_CHANGE": SPEEDS[:3], "RIGHT_CHANGE": SPEEDS[:3],
}  # fmt: skip
"""Path -> speed actions that it is drawn with: nobody stops in the middle of a turn or a change."""
PATH_SHARES = {"STRAIGHT": 0.4, "LEFT_TURN": 0.15, "RIGHT_TURN": 0.15, "LEFT_CHANGE": 0.15, "RIGHT_CHANGE": 0.15}
STOP_SHARE = 0.5
"""Share of the straight scenes that ask for STOP, so that every speed action is about as frequent."""
_CAUSES = {
    "STOP": ("red", "walker", "lead", "barrier"),
    "DECELERATE": ("red", "walker", "lead", "over"),
    "KEEP": ("free", "lead", "green", "far"),
    "ACCELERATE": ("free", "lead", "green"),
}
LEVELS = {"easy": 0.5, "medium": 0.25, "hard": MARGIN}
"""Difficulty -> the least distance to a threshold, as a share of it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A scene with what it asks for."""

    scene: Scene
    decision: Decision

    @property
    def difficulty(self) -> str:
        """`easy`, `medium` or `hard`, by the distance to the nearest threshold."""
        return next(level for level, least in LEVELS.items() if self.decision.clearance >= least)


def draw_pair(rng: random.Random) -> tuple[str, str]:
    """A (speed, path) pair by lot: every speed action about a quarter, straight two fifths."""
    path = rng.choices(list(PATH_SHARES), list(PATH_SHARES.values()))[0]
    if path == "STRAIGHT" and rng.random() < STOP_SHARE:
        return "STOP", path
    return rng.choice(FEASIBLE[path][:3]), path


def draw(rng: random.Random, wanted: tuple[str, str] | None = None, least: float = MARGIN) -> Drawn:
    """A clear scene that asks for the wanted pair; for a pair by lot when none is given.

    Its own plan, carried out in the simulator, is safe and comfortable.

    Args:
        least: refuse scenes nearer to a threshold than this share of it.
    """
    pair = wanted or draw_pair(rng)
    for _ in range(MAX_DRAWS):
        drawn = _judged(rng, _try(rng, *pair), pair, least)
        if drawn is not None:
            return drawn
    raise AssertionError(f"no clear scene for {', '.join(pair)} in {MAX_DRAWS} draws")


def draw_with(rng: random.Random, has: Callable[[Scene], bool], least: float = MARGIN) -> Drawn:
    """A clear scene of any pair that has what is asked for. What is rare is looked for before a scene is judged."""
    for _ in range(MAX_DRAWS):
        pair = draw_pair(rng)
        scene = _try(rng, *pair)
        drawn = _judged(rng, scene, pair, least) if scene is not None and has(scene) else None
        if drawn is not None:
            return drawn
    raise AssertionError(f"no clear scene of the asked kind in {MAX_DRAWS} draws")


def _judged(rng: random.Random, scene: Scene | None, pair: tuple[str, str], least: float) -> Drawn | None:
    """The scene with its decision, when it is clear, asks for the pair, and the pair ends well."""
    if scene is None or not is_clear(scene):
        return None
    decision = decide(scene)
    if (decision.speed, decision.path) != pair or decision.clearance < least or evaluate(scene, *pair).pdm_proxy < 1.0:
        return None
    return Drawn(replace(scene, texture=rng.getrandbits(32)), decision)


def _try(rng: random.Random, speed: str, path: str) -> Scene | None:
    """One scene that may ask for the pair."""
    cause = rng.choice(_CAUSES[speed] if path == "STRAIGHT" else ("free", "lead", "green", "over"))
    limit = rng.choice(LIMITS)
    scene = Scene(_speed(rng, speed, path, cause, limit), limit)
    scene = replace(scene, left=_lane(rng, scene, rng.random() < 0.5), right=_lane(rng, scene, rng.random() < 0.5))
    return _with_path(rng, _with_cause(rng, scene, speed, cause), path)


def _speed(rng: random.Random, speed: str, path: str, cause: str, limit: int) -> int:
    if speed == "STOP":
        return rng.randint(2, 7)
    if path.endswith("TURN"):
        return {"KEEP": 5, "ACCELERATE": rng.randint(2, 4), "DECELERATE": rng.randint(6, 9)}[speed]
    if speed == "KEEP":
        return limit + rng.choice((0, 0, 1)) if cause != "lead" else rng.randint(4, limit)
    if speed == "ACCELERATE":
        return rng.randint(3, limit - 1)
    return limit + rng.randint(2, 4) if cause == "over" else rng.randint(5, limit)


def _with_cause(rng: random.Random, scene: Scene, speed: str, cause: str) -> Scene:
    is_stop = speed == "STOP"
    distance = rng.uniform(2.5, 11.0) if is_stop else rng.uniform(5.0, 45.0)
    if cause in ("red", "green"):
        return replace(scene, light=cause, line=distance, junction=distance + 4.0)
    if cause == "walker":
        return replace(scene, walker=True, line=distance)
    if cause == "far":
        return replace(scene, light="red", line=rng.uniform(60.0, 70.0))
    if cause == "barrier":
        return replace(scene, barrier=distance)
    if cause == "lead":
        other = 0.0 if is_stop else float(max(0, scene.speed + rng.choice({"KEEP": (0, 0, 2), "ACCELERATE": (0, 2, 4)}.get(speed, (-4, -3, -2, 0)))))  # fmt: skip
        return replace(scene, lead=Car(distance, other))
    return scene


def _with_path(rng: random.Random, scene: Scene, path: str) -> Scene | None:
    """Command, junction and lanes that may lead to the path; None where they cannot."""
    if path == "STRAIGHT":
        command = rng.choices(COMMANDS, (2, 1, 1))[0]
        if scene.junction is None and command in SIDES and rng.random() < 0.5:
            scene = replace(scene, junction=scene.speed * HORIZON_S * rng.uniform(1.15, 2.0) + 2.0)
        return replace(scene, command=command)
    side = path.split("_")[0].lower()
    if path.endswith("TURN"):
        if scene.light == "none":
            scene = replace(scene, junction=scene.speed * HORIZON_S * rng.uniform(0.25, 0.85))
        return replace(scene, command=side)
    lane = _lane(rng, scene, False)
    scene = replace(scene, left=lane) if side == "left" else replace(scene, right=lane)
    if rng.random() < 0.35 and scene.lead is None:
        scene = replace(scene, barrier=rng.uniform(14.0, 45.0))
    command = side if scene.barrier is None or rng.random() < 0.5 else "straight"
    if command in SIDES and scene.light == "none" and rng.random() < 0.5:
        scene = replace(scene, junction=scene.speed * HORIZON_S * rng.uniform(1.15, 2.0) + 2.0)
    return replace(scene, command=command)


def _lane(rng: random.Random, scene: Scene, may_be_missing: bool) -> SideLane | None:
    """A lane beside ours: half of the time a car is so close that nobody can move over, else cars are far or absent."""
    if may_be_missing:
        return None
    ahead = behind = None
    if rng.random() < 0.5:
        close = Car(rng.uniform(0.3, 2.8), float(scene.speed))
        if rng.random() < 0.5:
            ahead = close
        else:
            behind = close
    if ahead is None and rng.random() < 0.5:
        ahead = Car(rng.uniform(18.0, 40.0), float(scene.speed + rng.choice((0, 1, 2))))
    if behind is None and rng.random() < 0.4:
        behind = Car(rng.uniform(14.0, 30.0), float(max(0, scene.speed - rng.choice((0, 1, 2)))))
    return SideLane(ahead, behind)
