"""Car following, the rules, and the scenes that are drawn for them."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.domains.driving.actions import PATHS, SPEEDS, f1, read_plan, write_plan
from factory.domains.driving.facts import facts, is_clear, pace
from factory.domains.driving.following import Ahead, acceleration, speed_after
from factory.domains.driving.rules import decide, lane_state, needed_gap, speed_label
from factory.domains.driving.scene import Car, Scene, SideLane
from factory.domains.driving.scenes import FEASIBLE, draw
from factory.domains.driving.simulator import evaluate


def test_idm_on_a_free_road():
    # a (1 - (v / v0)^4) = 1.5 (1 - (10 / 20)^4) = 1.5 x 0.9375
    assert acceleration(10.0, 20.0, []) == pytest.approx(1.40625)
    assert acceleration(20.0, 20.0, []) == 0.0


def test_idm_behind_a_slower_car():
    # s* = 2 + 10 x 1.5 + 10 x 4 / (2 sqrt(1.5 x 2)) = 17 + 40 / 3.4641 = 28.547; (s* / s)^2 = (28.547 / 30)^2 = 0.90548
    # a (1 - (1/2)^4 - 0.90548) = 1.5 x 0.03202
    assert acceleration(10.0, 20.0, [Ahead(30.0, 6.0)]) == pytest.approx(1.5 * (0.9375 - (28.5470 / 30) ** 2), abs=1e-4)


def test_the_nearest_thing_decides():
    far, near = Ahead(80.0, 10.0), Ahead(12.0, 0.0)
    assert acceleration(10.0, 14.0, [far, near]) == acceleration(10.0, 14.0, [near, far]) == acceleration(10.0, 14.0, [near])


@given(st.floats(0, 25), st.floats(5, 25), st.floats(0.5, 100), st.floats(0, 25))
def test_following_never_drives_backwards(speed, desired, gap, other):
    assert speed_after(speed, desired, [Ahead(gap, other)], 3.0) >= 0.0


def test_speed_labels_of_the_guide():
    assert speed_label(10.0, 10.76) == "ACCELERATE"
    assert speed_label(10.0, 9.24) == "DECELERATE"
    assert speed_label(10.0, 10.75) == speed_label(10.0, 9.25) == "KEEP"
    assert speed_label(4.0, 0.49) == "STOP"
    assert speed_label(4.0, 0.51) == "DECELERATE"


@pytest.mark.parametrize(
    ("scene", "speed", "path"),
    [
        (Scene(12, 12), "KEEP", "STRAIGHT"),
        (Scene(6, 14), "ACCELERATE", "STRAIGHT"),
        (Scene(16, 12), "DECELERATE", "STRAIGHT"),
        (Scene(4, 12, light="red", line=5.0, junction=9.0), "STOP", "STRAIGHT"),
        (Scene(4, 12, light="green", line=5.0, junction=9.0), "ACCELERATE", "STRAIGHT"),
        (Scene(4, 12, walker=True, line=5.0), "STOP", "STRAIGHT"),
        (Scene(8, 12, "left", junction=10.0), "DECELERATE", "LEFT_TURN"),
        (Scene(8, 12, "left", junction=30.0), "ACCELERATE", "STRAIGHT"),  # 30 m > 3 s x 8 m/s: later
        (Scene(8, 12, "left", junction=10.0, light="red", line=6.0), "STOP", "STRAIGHT"),  # held at the line
        (Scene(12, 12, "right", right=SideLane()), "KEEP", "RIGHT_CHANGE"),
        (Scene(12, 12, "right", right=SideLane(behind=Car(3.0, 12.0))), "KEEP", "STRAIGHT"),
        (Scene(12, 12, barrier=30.0, right=SideLane()), "KEEP", "RIGHT_CHANGE"),
        (Scene(12, 12, barrier=30.0, left=SideLane(), right=SideLane()), "KEEP", "LEFT_CHANGE"),
        (Scene(6, 12, barrier=6.0), "STOP", "STRAIGHT"),
    ],
)
def test_what_scenes_ask_for(scene, speed, path):
    found = decide(scene)
    if scene.light == "red" and scene.speed == 8:
        assert found.path == path and found.speed in ("STOP", "DECELERATE")
    else:
        assert (found.speed, found.path) == (speed, path)


def test_gap_acceptance():
    # 4 m, and three seconds of closing: 4 + 3 (15 - 12) = 13 m behind; nothing more for a car that falls back.
    assert needed_gap(12, 15, True) == 13.0
    assert needed_gap(12, 9, True) == 4.0
    assert needed_gap(12, 9, False) == 13.0
    assert lane_state(Scene(12, 12, left=SideLane(behind=Car(12.9, 15.0))), "left") == "busy"
    assert lane_state(Scene(12, 12, left=SideLane(behind=Car(13.1, 15.0))), "left") == "free"
    assert lane_state(Scene(12, 12), "left") == "none"


@pytest.mark.parametrize(("speed", "path"), [(speed, path) for path in PATHS for speed in FEASIBLE[path]])
def test_every_pair_can_be_drawn_and_ends_well(speed, path):
    for seed in range(3):
        drawn = draw(random.Random(f"pair-{seed}"), (speed, path))
        assert (drawn.decision.speed, drawn.decision.path) == (speed, path)
        assert drawn.decision.clearance >= 0.1 and is_clear(drawn.scene)
        assert evaluate(drawn.scene, speed, path, (speed, path)).pdm_proxy == 1.0
        assert Scene.from_json(drawn.scene.to_json()) == drawn.scene


def test_speed_actions_are_balanced_and_not_told_by_the_pace_alone():
    found = [draw(random.Random(f"balance-{seed}")) for seed in range(400)]
    counts = Counter(drawn.decision.speed for drawn in found)
    assert set(counts) == set(SPEEDS) and min(counts.values()) > 400 * 0.15
    under = Counter(drawn.decision.speed for drawn in found if pace(drawn.scene) == "under")
    assert len(under) == 4 and max(under.values()) < 0.6 * sum(under.values())
    assert {level for level in (drawn.difficulty for drawn in found)} == {"easy", "medium", "hard"}


def test_facts_of_a_scene():
    scene = Scene(10, 12, "left", lead=Car(8.0, 4.0), light="red", line=20.0, junction=24.0, left=SideLane(behind=Car(1.0, 10.0)))
    assert facts(scene) == {
        "light": "red", "walker": "none", "lead": "near", "brakes": "on", "barrier": "none", "left": "busy", "right": "none",
        "junction": "near",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["DECELERATE, LEFT_TURN", "decelerate , left_turn", "slow down and turn left", "Left turn; Decelerate."]
)
def test_ways_to_write_a_plan(text):
    plan = read_plan(text)
    assert (plan.speed, plan.path) == ({"DECELERATE"}, {"LEFT_TURN"})


@given(st.sampled_from(SPEEDS), st.sampled_from(PATHS), st.sampled_from(["terse", "full"]))
def test_plans_survive_writing(speed, path, style):
    plan = read_plan(write_plan(speed, path, style))
    assert (plan.speed, plan.path) == ({speed}, {path})


@pytest.mark.parametrize("text", ["fly", "KEEPX", "keep, left", "KEEP STRAIGHT", "keep, accelerate, stop"])
def test_what_is_no_plan(text):
    with pytest.raises(ValueError, match=r"no meta-action|a list, not a plan"):
        read_plan(text)


@settings(max_examples=50)
@given(st.sets(st.sampled_from(SPEEDS)), st.sets(st.sampled_from(SPEEDS)))
def test_f1_by_precision_and_recall(got, want):
    expected = 0.0
    if got and want and got & want:
        precision, recall = len(got & want) / len(got), len(got & want) / len(want)
        expected = 2 * precision * recall / (precision + recall)
    assert math.isclose(f1(got, want), expected)
