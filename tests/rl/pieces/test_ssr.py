"""Selective sample replay: priorities, the three variants, the queue over steps and a resume."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_kit import Shelf, as_json

from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.draws import draw, magnitude, normalised
from factory.stages.rl.pieces.ssr import SelectiveReplay, priorities
from factory.stages.rl.rollouts import FRESH, REPLAY, Group, Rollout


def a_context(step=0, shelf=None):
    return StepContext(step, 100, 0, 64, 8, services=shelf or Shelf())


def grouped(*advantages, step=0):
    """One group per list of advantages; None: a masked rollout. Texts name step, group and index."""
    return [
        Group(Shelf().sample(f"q{place}"), [
            Rollout(place, i, [7, 8], [-1.0, -2.0], True, step, text=f"{step}{place}{i}", advantage=a or 0.0,
                    reward=Reward(0.0, a is None, False, {}, {}, {}))
            for i, a in enumerate(own)
        ])
        for place, own in enumerate(advantages)
    ]  # fmt: skip


def texts(groups, *kinds):
    return [r.text for group in groups for r in group.rollouts if not kinds or r.kind in kinds]


@pytest.mark.proves("resample.ssr", "vector")
def test_priorities():
    assert priorities([0.2, 0.8, 1.6], 1.0) == pytest.approx([0.076923, 0.307692, 0.615385], abs=1e-6)  # B15
    assert priorities([0.2, 0.8, 1.6], 0.0) == pytest.approx([1 / 3] * 3)


def test_paper_fills_the_places_of_useless_rollouts_from_earlier_steps():
    piece = SelectiveReplay()
    first = piece.apply(a_context(0), grouped([0.0, 0.0], [0.5, -0.5]))
    assert texts(first) == ["010", "011"], "the queue was empty, so the batch is smaller"
    ctx = a_context(1)
    second = piece.apply(ctx, grouped([0.0, 0.0, None], [0.0, 0.75], step=1))
    # 4 live rollouts, 1 useful: 3 come from the queue, each a group by itself with its old advantage and log-probs.
    assert texts(second, FRESH) == ["111"] and len(texts(second, REPLAY)) == 3
    assert set(texts(second, REPLAY)) <= {"010", "011"}
    replayed = second[-1].rollouts[0]
    assert abs(replayed.advantage) == 0.5 and replayed.logprobs == [-1.0, -2.0] and second[-1].sample.id == "q1"
    assert ctx.metrics["ssr/useful_share"] == 0.25 and ctx.metrics["ssr/replayed"] == 3.0


def test_the_queue_holds_half_a_batch_and_forgets_the_oldest():
    piece = SelectiveReplay()
    piece.apply(a_context(0), grouped([1.0, -1.0], [1.0, -1.0]))
    assert [row["rollout"]["text"] for row in piece.state_dict()["queue"]] == ["010", "011"]
    piece.apply(a_context(1), grouped([0.0, 1.0], [0.0, 0.0], step=1))
    assert [row["rollout"]["text"] for row in piece.state_dict()["queue"]] == ["011", "101"]


def test_code_trains_on_half_a_batch_and_lets_this_step_join_the_queue_first():
    piece = SelectiveReplay(variant="code")
    # 8 rollouts, target 4; 2 are useful, so 2 more come from the queue, which holds only those two.
    found = piece.apply(a_context(), grouped([0.0] * 4, [0.0, 0.0, 0.6, -0.2]))
    assert texts(found, FRESH) == ["012", "013"]
    assert len(texts(found, REPLAY)) == 2 and set(texts(found, REPLAY)) <= {"012", "013"}
    # More useful ones than the target: all from this step, none twice.
    many = piece.apply(a_context(1), grouped([0.5, -0.5, 1.0, -1.0, 0.25, -0.25], step=1))
    assert len(texts(many)) == len(set(texts(many, FRESH))) == 3


def test_code_offset_lets_even_tiny_advantages_out_of_the_queue():
    piece = SelectiveReplay(variant="code")
    # weights 1e-9 + 1e-4 and 1e-4 + 1e-4: one third and two thirds of the draws; without the offset one in 100 000
    piece.apply(a_context(), grouped([1e-9, 1e-4, 0.0, 0.0]))
    drawn = [text for s in range(1, 101) for text in texts(piece.apply(a_context(s), grouped([0.0] * 4, step=s)), REPLAY)]
    assert len(drawn) == 200 and 200 / 3 - 30 < drawn.count("000") < 200 / 3 + 30


def test_filter_only_repeats_in_turn_and_stores_nothing():
    piece = SelectiveReplay(variant="filter_only")
    found = piece.apply(a_context(), grouped([0.0] * 4, [0.5, 0.0, -0.5, 0.0], [0.0, 0.0]))
    assert texts(found) == ["010", "012", "010", "012", "010"], "half of ten"
    members = found[0].rollouts
    assert len({id(r) for r in members}) == 5 and {r.kind for r in members} == {FRESH}
    assert piece.apply(a_context(), grouped([0.0, 0.0])) == [] and piece.state_dict() == {"queue": []}


advantages = st.lists(st.lists(st.sampled_from([None, 0.0, 0.25, -0.5, 1.0]), min_size=1, max_size=4), min_size=1, max_size=4)


@pytest.mark.proves("resample.ssr", "law")
@given(steps=st.lists(advantages, min_size=1, max_size=3), variant=st.sampled_from(["paper", "code", "filter_only"]))
def test_only_rollouts_with_an_advantage_train_and_never_more_than_were_sampled(steps, variant):
    piece = SelectiveReplay(variant=variant)
    for step, own in enumerate(steps):
        groups = grouped(*own, step=step)
        live = [a for group in own for a in group if a is not None]
        useful = [a for a in live if a]
        found = [rollout for group in piece.apply(a_context(step), groups) for rollout in group.rollouts]
        assert all(rollout.advantage for rollout in found) and len(found) <= max(len(live), len(useful))
        assert len({id(rollout) for rollout in found}) == len(found)
        assert [r.advantage or None for group in groups for r in group.rollouts] == [a or None for group in own for a in group]
        assert len(piece.state_dict()["queue"]) <= 8


@pytest.mark.proves("resample.ssr", "resume")
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_a_restored_queue_draws_the_same(variant):
    piece, again = SelectiveReplay(variant=variant), SelectiveReplay(variant=variant)
    piece.apply(a_context(0), grouped([1.0, -0.5, 0.25, 0.0], [0.1, 0.2, -0.3, 0.0]))
    again.load_state_dict(as_json(piece.state_dict()))
    for step in (1, 2, 3):
        own = grouped([0.0] * 4, [0.0, 0.0, 0.0, 0.5], step=step)
        one, other = piece.apply(a_context(step), own), again.apply(a_context(step), own)
        assert one == other and texts(one, REPLAY)
    assert as_json(piece.state_dict()) == as_json(again.state_dict())


def test_a_replayed_rollout_keeps_its_token_advantages():
    groups = grouped([0.0, 0.0])
    groups[0].rollouts[1].token_advantages = [0.0, -3.0]
    piece = SelectiveReplay()
    piece.apply(a_context(), groups)
    found = piece.apply(a_context(1), grouped([0.0, 0.0], step=1))
    assert found[0].rollouts[0].token_advantages == [0.0, -3.0]
    assert magnitude(found[0].rollouts[0]) == 1.5 and magnitude(found[0].rollouts[0], summed=True) == 3.0


@given(weights=st.lists(st.sampled_from([0.0, 0.5, 2.0]), max_size=6), num=st.integers(0, 8), replaces=st.booleans())
def test_draws_never_take_a_weight_of_zero_and_keep_their_number(weights, num, replaces):
    import random

    found = draw(random.Random(0), weights, num, with_replacement=replaces)
    able = [place for place, weight in enumerate(weights) if weight]
    assert set(found) <= set(able)
    assert len(found) == (num if replaces and able else min(num, len(able)))
    assert replaces or len(set(found)) == len(found)
    assert sum(normalised(weights)) == pytest.approx(1.0 if able else 0.0)


@pytest.mark.parametrize("settings", [{"variant": "x"}, {"alpha": -1.0}, {"queue_share": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        SelectiveReplay(**settings)


@pytest.mark.proves("resample.ssr", "run")
@pytest.mark.parametrize("preset", ["vl_rethinker", "ssb_like"])
def test_a_run_replays(run_stage, preset):
    # Three rollouts of a prompt leave some groups without spread, whose places are filled.
    _, rows, _ = run_stage(preset=preset, group_size=3, num_steps=3)
    assert any(row["ssr/replayed"] > 0 for row in rows) and all(row["ssr/useful_share"] <= 1 for row in rows)
