"""Open-loop metrics of nuScenes planning, each under the name of its convention: two are in use, and they differ by half.

With d_t the error of the point at t half seconds: UniAD's L2@k s is d_2k, the error at that time; VAD's (and ST-P3's) is the mean
of d_1 ... d_2k. Collisions likewise. Samples whose true way collides are left out of the collision rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from factory.domains.driving.boxes import Box, overlap
from factory.domains.driving.clips import RATE
from factory.domains.driving.scene import EGO_M
from factory.domains.driving.waypoints import Point

CONVENTIONS = ("uniad", "vad")
SECONDS = (1, 2, 3)


def errors(got: Sequence[Point], want: Sequence[Point]) -> list[float]:
    """Distance in m of each point. Raises ValueError for different numbers of points."""
    if len(got) != len(want):
        raise ValueError(f"{len(got)} points for {len(want)}")
    return [math.dist(a, b) for a, b in zip(got, want, strict=True)]


def at_seconds(values: Sequence[float], convention: str) -> dict[int, float]:
    """Second -> value: at that time (`uniad`), or the mean up to it (`vad`). `values` are half a second apart.

    Raises ValueError for another convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}; want one of {', '.join(CONVENTIONS)}")
    ends = {second: second * RATE for second in SECONDS if second * RATE <= len(values)}
    if convention == "uniad":
        return {second: values[end - 1] for second, end in ends.items()}
    return {second: math.fsum(values[:end]) / end for second, end in ends.items()}


def hits(points: Sequence[Point], boxes: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """1 for each time at which our box meets another, else 0. `boxes[t]`: [ahead, left, heading, length, width] of the others at t.

    Exact rectangles; the published evaluations draw them on a grid of 0.5 m.
    """
    found, last, heading = [], (0.0, 0.0), 0.0
    for (x, y), others in zip(points, boxes, strict=True):
        if math.dist(last, (x, y)) > 0.2:
            heading = math.atan2(y - last[1], x - last[0])
        ours = Box(x, y, heading, *EGO_M)
        found.append(float(any(overlap(ours, Box(*other)) for other in others)))
        last = (x, y)
    return found


def report(rows: Sequence[Mapping]) -> dict[str, float]:
    """Means over samples.

    Args:
        rows: each with `got` and `want` (points), and `boxes` where the others are known.

    Returns:
        `l2_<convention>/<k>s`, their mean `l2_<convention>/avg`, `ade`, `fde`; with boxes `collision_<convention>/<k>s`, `.../avg` and
        `collision/num_left_out` (samples whose true way collides).
    """
    if not rows:
        return {}
    distances = [errors(row["got"], row["want"]) for row in rows]
    figures = {"ade": _mean([_mean(d) for d in distances]), "fde": _mean([d[-1] for d in distances])}
    figures |= _by_convention("l2", distances)
    boxed = [row for row in rows if row.get("boxes")]
    kept = [row for row in boxed if not any(hits(row["want"], row["boxes"]))]
    if boxed:
        figures["collision/num_left_out"] = float(len(boxed) - len(kept))
        figures |= _by_convention("collision", [hits(row["got"], row["boxes"]) for row in kept])
    return figures


def _by_convention(name: str, rows: Sequence[Sequence[float]]) -> dict[str, float]:
    figures = {}
    for convention in CONVENTIONS if rows else ():
        each = [at_seconds(row, convention) for row in rows]
        for second in each[0]:
            figures[f"{name}_{convention}/{second}s"] = _mean([found[second] for found in each])
        figures[f"{name}_{convention}/avg"] = _mean([figures[f"{name}_{convention}/{second}s"] for second in each[0]])
    return figures


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
