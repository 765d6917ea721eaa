"""Sheets of exercises without a picture: what a question about a scene needs beyond seeing.

Speed against the limit, the points of a plan, which word answers a question about a fact, and what an outcome means for safety.
"""

from __future__ import annotations

import random

from factory.domains.driving.actions import PATHS, SPEEDS, write_plan
from factory.domains.driving.facts import PHRASES, VALUES
from factory.domains.driving.reasoning import FAULTS, pace_words
from factory.domains.driving.scene import SIDES, Scene, SideLane
from factory.domains.driving.scenes import LIMITS
from factory.domains.driving.waypoints import way_text

EXERCISES = 8
"""Exercises on one sheet."""


def textbook(rng: random.Random, style: str) -> str:
    """One sheet."""
    kinds = (_pace, _way, _way, _look_up, _look_up, _verdict)
    return "\n\n".join(rng.choice(kinds)(rng, style) for _ in range(EXERCISES))


def _pace(rng: random.Random, style: str) -> str:
    """Speed, limit, and which is larger."""
    limit = rng.choice(LIMITS)
    scene = Scene(max(0, limit + rng.randint(-9, 5)), limit)
    given = f"v {scene.speed} lim {limit}" if style == "terse" else f"Speed {scene.speed} m/s, limit {limit} m/s."
    return f"{given}\n{pace_words(scene, style)}"


def _way(rng: random.Random, style: str) -> str:
    """Speed, limit, a plan, and its points. The junction of a turn is near."""
    path = rng.choice(PATHS)
    limit = rng.choice(LIMITS)
    speed = rng.randint(2, 9) if path.endswith("TURN") else rng.randint(2, limit + 4)
    command = path.split("_")[0].lower() if path.split("_")[0].lower() in SIDES else "straight"
    junction = rng.uniform(0.25, 0.85) * 3 * speed if path.endswith("TURN") else None
    scene = Scene(speed, limit, command, junction=junction, left=SideLane(), right=SideLane())
    plan = (rng.choice(SPEEDS), path)
    given = f"v {speed} lim {limit} cmd {command}" if style == "terse" else f"Speed {speed} m/s, limit {limit} m/s."
    return f"{given}\n{write_plan(*plan, style)} : {way_text(scene, plan, style)}"


def _look_up(rng: random.Random, style: str) -> str:
    """A question about a fact, the fact, and the word that answers."""
    name = rng.choice(tuple(VALUES))
    words = rng.sample(VALUES[name], len(VALUES[name]))
    value = rng.choice(words)
    if style == "terse":
        return f"{name} : {' or '.join(words)} ?\n{name} {value}\n{value}"
    return f"Of {PHRASES[name]}: is it {', '.join(words[:-1])} or {words[-1]}?\n{value}"


def _verdict(rng: random.Random, style: str) -> str:
    """What a plan leads to, and whether that is safe."""
    fault = rng.choice(tuple(FAULTS)) if rng.random() < 0.5 else "clean"
    answer = "yes" if fault == "clean" else "no"
    return f"safe ?\n{fault}\n{answer}" if style == "terse" else f"With this plan {FAULTS[fault]}. Is it safe?\n{answer}"
