"""LUFFY: the teacher's trace in the group, the two advantages, and the loss that reshapes foreign tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replay_kit import Shelf, token_batch

from factory.rewards.mixture import Reward
from factory.stages.rl.pieces.advantage import GroupMean
from factory.stages.rl.pieces.luffy import FreshStatistics, TeacherTrace
from factory.stages.rl.pieces.mixed_loss import MixedLoss
from factory.stages.rl.pieces.policy_loss import Clip
from factory.stages.rl.pieces.shapers import SHAPERS, shaped
from factory.stages.rl.rollouts import DEMO, FRESH, REPLAY, Group, Rollout

REPLAYS = {"stored_rollouts": 1.0}


def advantages(group):
    return [rollout.advantage for rollout in group.rollouts]


def taught(ctx, group, text="right"):
    ctx.services = Shelf({group.sample.id: text})
    return TeacherTrace().apply(ctx, [group])[0]


@pytest.mark.proves("inject.luffy", "vector")
@pytest.mark.proves("advantage.group_mean", "vector")
def test_the_trace_takes_the_last_place_and_moves_the_group_mean(context, group_of):
    # B15, LUFFY advantage: r = [0 x7, 1] -> -0.125 and 0.875.
    ctx, group = context(), group_of([0.0] * 8)
    mixed = taught(ctx, group)
    GroupMean().estimate(ctx, [mixed])
    assert advantages(mixed) == pytest.approx([-0.125] * 7 + [0.875])
    trace = mixed.rollouts[-1]
    assert (trace.kind, trace.logprobs, trace.index, trace.ids[-1]) == (DEMO, [0.0] * 6, 7, 0)
    assert trace.trained() == [1] * 6 and trace.right and trace.version < 0
    assert [r.kind for r in group.rollouts] == [FRESH] * 8, "the group that was sampled stays as it is"
    assert (ctx.metrics["luffy/demonstrations"], ctx.metrics["luffy/right"]) == (1.0, 1.0)


@pytest.mark.proves("inject.luffy", "table")
def test_the_trace_in_a_group_of_four_by_hand(context, group_of):
    # fresh 1, 1, 0, 0; the right trace takes the last place: 1, 1, 0, 1, mean 3/4, so 0.25, 0.25, -0.75, 0.25
    ctx = context()
    mixed = taught(ctx, group_of([1.0, 1.0, 0.0, 0.0]))
    GroupMean().estimate(ctx, [mixed])
    assert advantages(mixed) == pytest.approx([0.25, 0.25, -0.75, 0.25])


def test_a_group_keeps_its_rollouts_without_a_trace_that_fits_and_can_be_verified(context, group_of, rollout_of):
    def kinds(group, text, **limits):
        ctx = context(**limits)
        ctx.services = Shelf({group.sample.id: text} if text else {})
        return {r.kind for r in TeacherTrace().apply(ctx, [group])[0].rollouts}, ctx.metrics

    group = group_of([0.0, 1.0])
    assert kinds(group, None)[0] == {FRESH}
    assert kinds(group, "broken")[0] == {FRESH}
    found, metrics = kinds(group, "right", max_new_tokens=5)
    assert found == {FRESH} and metrics["luffy/too_long"] == 1.0
    assert kinds(group, "right", max_new_tokens=6)[0] == {FRESH, DEMO}
    # A stored success that another piece put in stays the only foreign member.
    held = Group(group.sample, [*group.rollouts, rollout_of(0, 2, kind=REPLAY)])
    assert kinds(held, "right")[0] == {FRESH, REPLAY}


@pytest.mark.proves("inject.luffy", "law")
@given(values=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_trace_changes_one_member_only(values):
    def member(i, value):
        return Rollout(0, i, [7], [-1.0], True, 0, reward=Reward(value, False, False, {}, {}, {}))

    from factory.stages.rl.context import StepContext

    ctx = StepContext(0, 10, 0, 64, len(values), services=Shelf({"q": "right"}))
    group = Group(ctx.services.sample("q"), [member(i, value) for i, value in enumerate(values)])
    found = TeacherTrace().apply(ctx, [group])[0]
    assert found.rollouts[:-1] == group.rollouts[:-1] and found.rollouts[-1].kind == DEMO
    assert [r.index for r in found.rollouts] == list(range(len(values)))


@pytest.mark.proves("advantage.fresh_statistics", "table")
def test_split_measures_the_trace_by_the_fresh_rollouts(context, group_of):
    ctx = context()
    failed = taught(ctx, group_of([0.0] * 8))
    FreshStatistics().estimate(ctx, [failed])
    # fresh mean 0, deviation 0 -> 1: the trace gets (1 - 0) / 1, and does not push the others down.
    assert advantages(failed) == [0.0] * 7 + [1.0]
    some = taught(ctx, group_of([1.0, 0.0, 0.0, 0.0]))
    FreshStatistics(eps=0.0).estimate(ctx, [some])
    # fresh [1, 0, 0]: mean 1/3, n-1 deviation sqrt((4 + 1 + 1) / 9 / 2) = 1/sqrt(3); (2/3) sqrt(3) = 1.154701, -0.577350
    assert advantages(some) == pytest.approx([1.154701, -0.577350, -0.577350, 1.154701], abs=1e-6)
    FreshStatistics(by_std=False).estimate(ctx, [some])
    assert advantages(some) == pytest.approx([2 / 3, -1 / 3, -1 / 3, 2 / 3])


def test_split_gives_nothing_to_masked_rollouts_or_without_fresh_ones(context, group_of, rollout_of):
    ctx = context()
    group = group_of([1.0, None, 0.0])
    FreshStatistics(by_std=False).estimate(ctx, [group])
    assert advantages(group) == [0.5, 0.0, -0.5]
    foreign = Group(group.sample, [rollout_of(0, 0, kind=DEMO), rollout_of(0, 1, 0.0, kind=REPLAY)])
    FreshStatistics().estimate(ctx, [foreign])
    assert advantages(foreign) == [0.0, 0.0]


@pytest.mark.proves("advantage.fresh_statistics", "float64", "law")
@given(
    fresh=st.lists(st.floats(0, 1), min_size=2, max_size=8), demo=st.floats(0, 1), order=st.randoms(use_true_random=False)
)  # fmt: skip
def test_split_equals_numpy_and_follows_any_order(fresh, demo, order):
    import numpy as np

    def member(i, value, kind=FRESH):
        return Rollout(0, i, [7], [-1.0], True, 0, kind=kind, reward=Reward(value, False, False, {}, {}, {}))

    rollouts = [member(i, value) for i, value in enumerate(fresh)] + [member(len(fresh), demo, DEMO)]
    std = float(np.std(np.array(fresh, dtype=np.float64), ddof=1)) if max(fresh) > min(fresh) else 1.0
    wanted = {r.index: (r.value - float(np.mean(fresh))) / (std + (1e-6 if max(fresh) > min(fresh) else 0.0)) for r in rollouts}
    order.shuffle(rollouts)
    FreshStatistics().estimate(None, [Group(None, rollouts)])
    for rollout in rollouts:
        assert rollout.advantage == pytest.approx(wanted[rollout.index], rel=1e-6, abs=1e-9)


@pytest.mark.proves("loss.mixed", "vector")
@pytest.mark.parametrize(
    ("p", "value", "weight"), [(0.5, 0.833333, 0.138889), (0.01, 0.090909, 0.082645), (1.0, 0.909091, 0.082645)]
)
def test_reshaped_teacher_tokens(p, value, weight):
    logp = torch.tensor([[math.log(p)]], dtype=torch.float64, requires_grad=True)
    found = MixedLoss()(token_batch(logp, 0.0, 1.0, [DEMO])).loss
    assert found.item() == pytest.approx(-value, abs=1e-5)
    found.sum().backward()
    assert -logp.grad.item() == pytest.approx(weight, abs=1e-5)


@pytest.mark.proves("loss.mixed", "table")
def test_every_shaper_at_a_quarter():
    # x = 0.25: x/(x+.1) = .714286, x/(x+.3) = .454545, x/(x+.5) = 1/3, ln x = -1.386294, x ln x = -.346574, sqrt x = .5
    wanted = {"none": 0.25, "p/(p+gamma)": 0.714286, "p/(p+0.3)": 0.454545, "p/(p+0.5)": 1 / 3, "logp": -1.386294,
              "p*logp": -0.346574, "sqrt(p)": 0.5, "p^0.5": 0.5}  # fmt: skip
    found = {name: shaped(torch.tensor(math.log(0.25), dtype=torch.float64), shaper=name, gamma=0.1).item() for name in SHAPERS}
    assert found == pytest.approx(wanted, abs=1e-6)


rows = st.lists(
    st.tuples(st.sampled_from([FRESH, DEMO, REPLAY]), st.floats(-3, 3), st.lists(st.floats(-5, -0.01), min_size=3, max_size=3),
              st.lists(st.floats(-5, -0.01), min_size=3, max_size=3)), min_size=1, max_size=5,
)  # fmt: skip


@pytest.mark.proves("loss.mixed", "float64")
@given(rows=rows, clip_fresh=st.sampled_from(["never", "until_replay", "always"]), has_replay=st.booleans())
def test_mixed_loss_and_gradient_equal_a_slow_reference(rows, clip_fresh, has_replay):
    kinds = [kind for kind, *_ in rows]
    logp = torch.tensor([new for *_, new, _ in rows], dtype=torch.float64, requires_grad=True)
    old = [[0.0] * 3 if kind == DEMO else before for kind, _, _, before in rows]
    batch = token_batch(logp, old, [[a] for _, a, _, _ in rows], kinds, totals={"stored_rollouts": float(has_replay)})
    loss = MixedLoss(clip_fresh=clip_fresh).__call__(batch).loss
    loss.sum().backward()
    clips = clip_fresh == "always" or (clip_fresh == "until_replay" and not has_replay)
    for b, (kind, a, new, _) in enumerate(rows):
        for t in range(3):
            x = math.exp(new[t] - old[b][t])
            if kind == FRESH:
                limited = min(max(x, 0.8), 1.2)
                value = max(-a * x, -a * limited) if clips else -a * x
                slope = 0.0 if clips and -a * limited > -a * x else -a * x
            else:
                value, slope = -a * x / (x + 0.1), -a * 0.1 * x / (x + 0.1) ** 2
            assert loss[b, t].item() == pytest.approx(value, rel=1e-9, abs=1e-12)
            # At the very edge of the clip the slope may be either one's.
            if not (kind == FRESH and clips and min(abs(x - 0.8), abs(x - 1.2)) < 1e-9) and a:
                assert logp.grad[b, t].item() == pytest.approx(slope, rel=1e-9, abs=1e-12)


@pytest.mark.proves("loss.mixed", "law")
@given(rows=rows, order=st.randoms(use_true_random=False))
def test_each_rollout_goes_by_its_own_kind_whatever_stands_beside_it(rows, order):
    def losses(some):
        found = token_batch([new for *_, new, _ in some], [old for *_, old in some], [[a] for _, a, _, _ in some],
                            [kind for kind, *_ in some], totals=REPLAYS)  # fmt: skip
        return MixedLoss().__call__(found).loss

    permutation = list(range(len(rows)))
    order.shuffle(permutation)
    whole = losses(rows)
    assert torch.equal(losses([rows[i] for i in permutation]), whole[permutation])
    assert torch.equal(torch.cat([losses([row]) for row in rows]), whole)


@pytest.mark.proves("loss.mixed", "law")
def test_replay_of_what_the_policy_is_now_equals_on_policy():
    # C7: old = current and no shaper, in value and gradient.
    def of(kind):
        logp = torch.tensor([[-0.3, -1.2], [-2.0, -0.1]], dtype=torch.float64, requires_grad=True)
        loss = MixedLoss(shaper="none")(token_batch(logp, logp.detach(), [[1.0], [-0.5]], [kind] * 2)).loss
        loss.sum().backward()
        return loss.detach(), logp.grad

    for one, other in zip(of(FRESH), of(REPLAY), strict=True):
        assert torch.equal(one, other)


def test_until_replay_is_the_plain_clip_before_and_no_clip_after():
    batch = token_batch([[0.0], [-3.0]], -1.0, [[1.0], [-1.0]], [FRESH, FRESH])
    before, clip = MixedLoss(clip_fresh="until_replay")(batch), Clip()(batch)
    assert torch.equal(before.loss, clip.loss) and torch.equal(before.clipped_high, clip.clipped_high)
    after = MixedLoss(clip_fresh="until_replay")(token_batch([[0.0]], -1.0, 1.0, [FRESH], totals=REPLAYS))
    assert after.loss.item() == pytest.approx(-math.e) and after.clipped_high is None


def test_the_loss_counts_stored_rollouts_that_train():
    kinds = torch.tensor([1, 1, 2, 0])
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert MixedLoss().counts({"kinds": kinds, "policy_mask": mask}) == {"stored_rollouts": 1.0}


@pytest.mark.parametrize("settings", [{"shaper": "x"}, {"gamma": 0.0}, {"clip_fresh": "no"}, {"eps_low": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        MixedLoss(**settings)


@pytest.mark.proves("inject.luffy", "run")
@pytest.mark.proves("loss.mixed", "run")
def test_a_run_learns_from_the_lessons(run_stage):
    # Every question has a lesson `blue`, which is right; a group of 8 holds 7 fresh rollouts and that one.
    _, rows, _ = run_stage(preset="luffy", prompts_from="lessons", samples=12, num_steps=2)
    assert rows[0]["luffy/demonstrations"] == 4 and rows[0]["luffy/right"] == 1.0
    assert rows[0]["replay_share"] == pytest.approx(1 / 8)


def test_a_run_with_split_statistics(run_stage):
    _, rows, _ = run_stage(
        preset="luffy", prompts_from="lessons", samples=12, num_steps=1, pieces={"advantage": "fresh_statistics"}
    )  # fmt: skip
    assert rows[0]["luffy/demonstrations"] == 4 and rows[0]["grad_norm"] > 0


def test_a_run_whose_traces_are_all_too_long_trains_on_fresh_rollouts(run_stage):
    _, rows, _ = run_stage(preset="luffy", prompts_from="lessons", samples=12, num_steps=1, max_new_tokens=1)
    assert rows[0]["luffy/too_long"] == 4 and rows[0]["luffy/demonstrations"] == 0 and rows[0]["replay_share"] == 0
