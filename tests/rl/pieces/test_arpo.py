"""ARPO: when a stored success comes in, how long it is kept, a resume; and the filter after injection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_kit import Shelf, as_json

from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import GroupStd, has_spread
from factory.stages.rl.pieces.arpo import DropEqual, StoredSuccess
from factory.stages.rl.rollouts import FRESH, REPLAY, Group, Rollout


def a_context(step=0):
    return StepContext(step, 100, 0, 64, 8, services=Shelf())


def a_group(values, name="q", step=0):
    return Group(Shelf().sample(name), [
        Rollout(0, i, [7, i], [-1.0, -0.25], True, step, text=f"{step}{i}", right=v == 1.0,
                reward=Reward(v or 0.0, v is None, False, {}, {}, {}))
        for i, v in enumerate(values)
    ])  # fmt: skip


def kinds(piece, group, step=1):
    return [r.kind for r in piece.apply(a_context(step), [group])[0].rollouts]


def after(values, **settings):
    piece = StoredSuccess(**settings)
    piece.observe(a_context(), [a_group(values)])
    return piece


@pytest.mark.proves("inject.arpo", "table")
def test_a_failed_group_gets_a_stored_success_in_its_first_place():
    piece, group, ctx = after([1.0, 0.0, 0.0, 0.0]), a_group([0.0] * 4, step=1), a_context(1)
    found = piece.apply(ctx, [group])[0]
    first = found.rollouts[0]
    assert (first.kind, first.text, first.logprobs, first.value, first.right) == (REPLAY, "00", [-1.0, -0.25], 1.0, True)
    assert found.rollouts[1:] == group.rollouts[1:] and {r.kind for r in group.rollouts} == {FRESH}
    assert ctx.metrics["arpo/replayed"] == 1.0
    # scores [1, 0, 0, 0]: mean 1/4, n-1 deviation 1/2 -> 1.5 and -0.5: the group teaches again
    GroupStd(eps=0.0).estimate(ctx, [found])
    assert [r.advantage for r in found.rollouts] == pytest.approx([1.5, -0.5, -0.5, -0.5])


@pytest.mark.parametrize(
    ("values", "comes"),
    [
        ([0.0] * 4, True),
        ([0.1] * 4, True),  # deviation 0, mean 0.1
        ([0.2] * 4, False),  # the mean is not below 0.2
        ([0.08, 0.0, 0.0, 0.0], True),  # deviation sqrt(0.0016 - 0.0004) = 0.0346
        ([0.12, 0.0, 0.0, 0.0], False),  # deviation sqrt(0.0036 - 0.0009) = 0.0520
        ([1.0, 0.0, 0.0, 0.0], False),
        ([None, 0.0, 0.0], True),
        ([None, None], False),
    ],
)
def test_when_a_group_has_failed(values, comes):
    assert (REPLAY in kinds(after([1.0, 0.0]), a_group(values))) == comes


def test_only_scores_above_a_tenth_are_stored_under_their_own_prompt():
    piece = after([0.1, 0.0])
    assert piece.state_dict() == {"stored": {}}
    piece = after([0.2, 0.0])
    assert kinds(piece, a_group([0.0, 0.0])) == [REPLAY, FRESH]
    assert kinds(piece, a_group([0.0, 0.0], name="other")) == [FRESH, FRESH]


def test_the_queue_keeps_the_newest_eight():
    piece = StoredSuccess()
    for step in range(3):
        piece.observe(a_context(step), [a_group([1.0] * 4, step=step)])
    assert [row["rollout"]["text"] for row in piece.state_dict()["stored"]["q"]] == [f"{s}{i}" for s in (1, 2) for i in range(4)]


def test_a_success_is_not_replayed_in_its_own_batch_and_replays_are_not_stored_again():
    piece = StoredSuccess()
    assert kinds(piece, a_group([0.0, 0.0])) == [FRESH, FRESH]
    group = a_group([1.0, 0.0])
    group.rollouts[0].kind = REPLAY
    piece.observe(a_context(), [group])
    assert piece.state_dict() == {"stored": {}}


@pytest.mark.proves("inject.arpo", "law")
@given(values=st.lists(st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=8), stored=st.booleans())
def test_at_most_the_first_member_changes(values, stored):
    piece, group = after([1.0] if stored else [0.0]), a_group(values, step=1)
    found = piece.apply(a_context(1), [group])[0]
    assert found.rollouts[1:] == group.rollouts[1:] and found.rollouts[0].kind in ((FRESH, REPLAY) if stored else (FRESH,))
    if has_spread(group.values(), tolerance=0.2):
        assert found == group


@pytest.mark.proves("inject.arpo", "resume")
def test_a_restored_buffer_draws_the_same():
    piece, again = after([1.0] * 8), StoredSuccess()
    again.load_state_dict(as_json(piece.state_dict()))
    groups = [a_group([0.0, 0.0], step=3) for _ in range(6)]
    assert piece.apply(a_context(3), groups) == again.apply(a_context(3), groups)
    drawn = {group.rollouts[0].text for group in piece.apply(a_context(4), groups)}
    assert len(drawn) > 1, "a random one of the stored"
    for one in (piece, again):
        one.observe(a_context(3), [a_group([1.0], step=3)])
    assert as_json(piece.state_dict()) == as_json(again.state_dict())


@pytest.mark.proves("resample.drop_equal", "table")
def test_groups_without_spread_go_after_injection():
    flat, useful, masked = a_group([0.0, 0.0]), a_group([1.0, 0.0]), a_group([None, 1.0])
    assert DropEqual().apply(None, [flat, useful, masked]) == [useful]


@pytest.mark.proves("resample.drop_equal", "law")
@given(values=st.lists(st.lists(st.sampled_from([None, 0.0, 1.0]), min_size=1, max_size=4), max_size=4))
def test_what_is_left_has_spread_and_its_order(values):
    groups = [a_group(own) for own in values]
    found = DropEqual().apply(None, groups)
    assert found == [group for group in groups if {0.0, 1.0} <= set(group.values())]


@pytest.mark.parametrize("settings", [{"length": 0}, {"max_std": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        StoredSuccess(**settings)


@pytest.mark.proves("inject.arpo", "run")
@pytest.mark.proves("resample.drop_equal", "run")
def test_a_run_replays(run_stage):
    # Two rollouts of a prompt often fail together, and by then its queue has a success.
    _, rows, _ = run_stage(preset="arpo", group_size=2, num_steps=5, optim={"lr": 1e-5})
    assert rows[0]["arpo/replayed"] == 0 and any(row["arpo/replayed"] > 0 for row in rows[1:])
