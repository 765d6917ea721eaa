"""One traffic scene as numbers: what a driver would see, in metres and metres per second.

The ego car's front bumper is at x = 0 of its lane's centre line, x ahead, y to the left. Gaps are bumper to bumper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LANE_M = 3.5
"""Width of a lane."""
EGO_M = (4.084, 1.85)
"""Length and width of the ego car (the box of nuScenes' open-loop evaluations)."""
CAR_M = (4.2, 1.8)
"""Length and width of every other car."""
COMMANDS = ("straight", "left", "right")
"""Navigation commands of AlphaDrive."""
LIGHTS = ("none", "green", "red")
SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Car:
    """Another car in a lane: the gap to it (ahead: from our front bumper; behind: from our rear bumper) and its speed."""

    gap: float
    speed: float


@dataclass(frozen=True, slots=True)
class SideLane:
    """A lane beside ours, with the nearest cars in it."""

    ahead: Car | None = None
    behind: Car | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides, is drawn or is simulated. Same scene, same pixels."""

    speed: int
    """Our speed, m/s."""
    limit: int
    """Speed limit, m/s."""
    command: str = "straight"
    lead: Car | None = None
    """The car ahead in our lane."""
    barrier: float | None = None
    """Distance to a barrier across our lane."""
    light: str = "none"
    line: float | None = None
    """Distance to the stop line of the light or of the crossing."""
    walker: bool = False
    """Somebody is on the crossing behind the line, in front of our lane."""
    junction: float | None = None
    """Distance to the near edge of the junction."""
    left: SideLane | None = None
    right: SideLane | None = None
    texture: int = 0
    """Seed of colours and noise of the drawing."""

    @property
    def hold(self) -> float | None:
        """Distance to a line that must not be crossed now: of a red light, or of a crossing with somebody on it."""
        return self.line if self.light == "red" or self.walker else None

    def lane(self, side: str) -> SideLane | None:
        """The lane on this side, None where the road ends."""
        return self.left if side == "left" else self.right

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for `Sample.meta`."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Scene:
        """Inverse of `to_json`. Raises KeyError or TypeError when it is no scene."""
        values = dict(row)
        values["lead"] = _car(row.get("lead"))
        for side in SIDES:
            lane = row.get(side)
            values[side] = None if lane is None else SideLane(_car(lane["ahead"]), _car(lane["behind"]))
        return cls(**values)


def _car(row: Mapping[str, Any] | None) -> Car | None:
    return None if row is None else Car(row["gap"], row["speed"])
