"""Car following: the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000), and its rollout over the plan's horizon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DT_S = 0.1
"""Step of every rollout."""


@dataclass(frozen=True, slots=True)
class Idm:
    """Settings of the driver. Accelerations in m/s^2."""

    headway_s: float = 1.5
    standstill_m: float = 2.0
    accel: float = 1.5
    comfort_decel: float = 2.0
    exponent: float = 4.0
    hardest_decel: float = 8.0


DRIVER = Idm()


@dataclass(frozen=True, slots=True)
class Ahead:
    """Something to follow or stop for: gap in m, its speed in m/s (0: it stands)."""

    gap: float
    speed: float = 0.0


def acceleration(speed: float, desired: float, ahead: Sequence[Ahead], driver: Idm = DRIVER) -> float:
    """IDM: a (1 - (v/v0)^4 - (s*/s)^2), s* = s0 + max(0, v T + v dv / (2 sqrt(a b))); the least over all that is ahead."""
    free = 1.0 - (speed / desired) ** driver.exponent
    least = free
    for thing in ahead:
        closing = speed - thing.speed
        wanted = driver.standstill_m + max(
            0.0, speed * driver.headway_s + speed * closing / (2.0 * math.sqrt(driver.accel * driver.comfort_decel))
        )
        least = min(least, free - (wanted / max(thing.gap, 0.1)) ** 2)
    return max(-driver.hardest_decel, driver.accel * least)


def speed_after(speed: float, desired: float, ahead: Sequence[Ahead], horizon_s: float, driver: Idm = DRIVER) -> float:
    """Speed in m/s after `horizon_s` of following; the things ahead keep their speeds. Never below 0."""
    gaps = [thing.gap for thing in ahead]
    for _ in range(round(horizon_s / DT_S)):
        now = [Ahead(gap, thing.speed) for gap, thing in zip(gaps, ahead, strict=True)]
        after = max(0.0, speed + acceleration(speed, desired, now, driver) * DT_S)
        step = (speed + after) / 2 * DT_S
        gaps = [gap + thing.speed * DT_S - step for gap, thing in zip(gaps, ahead, strict=True)]
        speed = after
    return speed
