"""Carrying plans out: boxes, speeds, collisions, lights, comfort, progress; waypoints driven along."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.domains.driving.boxes import Box, overlap
from factory.domains.driving.scene import Car, Scene, SideLane
from factory.domains.driving.simulator import drive, evaluate, judge, speed_profile
from factory.domains.driving.waypoints import poses_along, read_points, way, way_comfort

boxes = st.builds(
    Box, st.floats(-6, 6), st.floats(-6, 6), st.floats(-math.pi, math.pi), st.floats(0.5, 6), st.floats(0.5, 3)
)  # fmt: skip


def inside(box, x, y, slack):
    c, s = math.cos(box.heading), math.sin(box.heading)
    along, aside = (x - box.x) * c + (y - box.y) * s, (y - box.y) * c - (x - box.x) * s
    return abs(along) < box.length / 2 + slack and abs(aside) < box.width / 2 + slack


@settings(max_examples=150, deadline=None)
@given(boxes, boxes)
def test_overlap_agrees_with_points_thrown_into_a_box(one, other):
    rng = random.Random(repr((one, other)))
    c, s = math.cos(one.heading), math.sin(one.heading)
    thrown = []
    for _ in range(800):
        u, v = rng.uniform(-0.5, 0.5) * one.length, rng.uniform(-0.5, 0.5) * one.width
        thrown.append((one.x + u * c - v * s, one.y + u * s + v * c))
    if any(inside(other, x, y, -1e-6) for x, y in thrown):
        assert overlap(one, other)
    if overlap(one, other):
        # The overlap may be a sliver that no point met: then some point comes within half a metre of it.
        assert any(inside(other, x, y, 0.5) for x, y in thrown)
    assert overlap(one, other) == overlap(other, one)


def test_touching_is_no_overlap():
    assert not overlap(Box(0, 0, 0, 4, 2), Box(4, 0, 0, 4, 2))
    assert overlap(Box(0, 0, 0, 4, 2), Box(3.99, 0, 0, 4, 2))


def test_speeds_of_the_actions():
    # 10 m/s, 3 s: keep 10; accelerate 1.5 x 3 = 4.5 more; decelerate 2.5 x 3 = 7.5 less; stop max(3, 10 / 2.5) = 4 a second.
    assert speed_profile(10, "KEEP", "STRAIGHT", 20)[-1] == 10
    assert speed_profile(10, "ACCELERATE", "STRAIGHT", 20)[-1] == pytest.approx(14.5)
    assert speed_profile(10, "ACCELERATE", "STRAIGHT", 12)[-1] == 12
    assert speed_profile(10, "DECELERATE", "STRAIGHT", 20)[-1] == pytest.approx(2.5)
    assert speed_profile(6, "DECELERATE", "LEFT_TURN", 20)[-1] == 4.0
    assert speed_profile(10, "STOP", "STRAIGHT", 20)[25:] == [0.0] * 6


def test_the_way_of_a_stop():
    # v^2 / (2 a) = 36 / 6 = 6 m
    points = way(Scene(6, 10), ("STOP", "STRAIGHT"), 2)
    assert points[-1] == pytest.approx((6.0, 0.0), abs=0.02) and len(points) == 6


def test_turns_and_changes_go_to_their_side():
    scene = Scene(5, 10, "left", junction=3.0, left=SideLane(), right=SideLane())
    assert way(scene, ("KEEP", "LEFT_TURN"), 2)[-1][1] > 3.0
    assert way(scene, ("KEEP", "RIGHT_TURN"), 2)[-1][1] < -3.0
    assert way(scene, ("KEEP", "LEFT_CHANGE"), 2)[-1] == pytest.approx((15.0, 3.5))
    assert drive(scene, "KEEP", "LEFT_CHANGE")[-1].heading == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("scene", "plan", "fault"),
    [
        (Scene(10, 12, lead=Car(8.0, 4.0)), ("KEEP", "STRAIGHT"), "hits"),  # 3 s x 6 m/s of closing = 18 m > 8 m
        (Scene(10, 12, lead=Car(40.0, 10.0)), ("KEEP", "STRAIGHT"), "clean"),
        (Scene(10, 12, lead=Car(22.0, 4.0)), ("KEEP", "STRAIGHT"), "tight"),  # 4 m left, 0.67 s at 6 m/s
        (Scene(8, 12, light="red", line=15.0, junction=19.0), ("KEEP", "STRAIGHT"), "runs"),
        (Scene(8, 12, light="green", line=15.0, junction=19.0), ("KEEP", "STRAIGHT"), "clean"),
        (Scene(8, 12, light="red", line=30.0, junction=34.0), ("KEEP", "STRAIGHT"), "clean"),
        (Scene(8, 12, walker=True, line=10.0), ("KEEP", "STRAIGHT"), "hits"),
        (Scene(8, 12, barrier=10.0, left=SideLane()), ("KEEP", "STRAIGHT"), "hits"),
        (Scene(12, 12), ("KEEP", "LEFT_CHANGE"), "leaves"),
        (Scene(12, 12, left=SideLane()), ("KEEP", "LEFT_CHANGE"), "clean"),
        (Scene(12, 12, left=SideLane(ahead=Car(1.0, 12.0))), ("KEEP", "LEFT_CHANGE"), "tight"),  # 1 m of room
        (Scene(12, 12, left=SideLane(behind=Car(1.0, 12.0))), ("DECELERATE", "LEFT_CHANGE"), "hits"),
        (Scene(12, 12, left=SideLane(behind=Car(6.0, 12.0))), ("KEEP", "LEFT_CHANGE"), "clean"),
        (Scene(5, 12), ("KEEP", "LEFT_TURN"), "leaves"),
        (Scene(5, 12, junction=5.0), ("KEEP", "LEFT_TURN"), "clean"),
    ],
)
def test_what_plans_lead_to(scene, plan, fault):
    assert evaluate(scene, *plan).fault == fault


def test_pdm_proxy_by_hand():
    # Decelerating from 8 m/s to 2 m/s goes 2.4 s at 5 m/s and 0.6 s at 2 m/s = 13.2 of the 24 m of keeping: (5 + 2 + 5 x .55) / 12
    outcome = evaluate(Scene(8, 8), "DECELERATE", "STRAIGHT", ("KEEP", "STRAIGHT"))
    assert outcome.progress == pytest.approx(13.2 / 24, abs=0.002)
    assert outcome.pdm_proxy == pytest.approx((5 + 2 + 5 * 13.2 / 24) / 12, abs=0.001)
    assert evaluate(Scene(8, 8, barrier=10.0), "KEEP", "STRAIGHT").pdm_proxy == 0.0


def test_hard_braking_is_uncomfortable():
    assert evaluate(Scene(10, 12), "STOP", "STRAIGHT").comfort == 1.0  # 4 m/s^2
    assert evaluate(Scene(11, 12), "STOP", "STRAIGHT").comfort == 0.0  # 4.4 m/s^2 > 4.05


def test_waypoints_are_driven_along():
    scene = Scene(10, 12, lead=Car(20.0, 0.0))
    fast = judge(scene, poses_along([(10.0, 0.0), (20.0, 0.0), (30.0, 0.0)], 1, 10.0))
    slow = judge(scene, poses_along([(8.0, 0.0), (12.0, 0.0), (14.0, 0.0)], 1, 10.0))
    beside = judge(scene, poses_along([(10.0, 3.5), (20.0, 3.5), (30.0, 3.5)], 1, 10.0))
    assert (fast.no_collision, slow.no_collision, beside.no_collision) == (0.0, 1.0, 1.0)
    assert way_comfort([(10.0, 0.0), (20.0, 0.0), (30.0, 0.0)], 1, 10.0) == 1.0
    assert way_comfort([(10.0, 0.0), (14.0, 0.0), (15.0, 0.0)], 1, 10.0) == 0.0  # 10 -> 4 m/s in a second


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[[1, 2]]",
        "[[1,2],[3,4],[NaN,0]]",
        "[[1,2],[3,4],[true,0]]",
        "[1,2,3]",
        "{}",
        "[[1,2],[3,4],[5,6]] ok",
        "[" * 5000,
    ],
)
def test_what_are_no_points(text):
    with pytest.raises(ValueError, match=r"point|JSON|number"):
        read_points(text, 3)
