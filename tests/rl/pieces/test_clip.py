"""The clipped surrogate and its pre-clipped variant; the z-score filter of advantages that goes with the latter."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import batch_of, gradient, random_batch

from factory.stages.rl.pieces.policy_loss import Clip
from factory.stages.rl.pieces.stable import AdvantageFilter, StableClip

HIGHER = {"eps_low": 0.2, "eps_high": 0.28}


def one_token(advantage, ratio):
    return batch_of([[math.log(ratio)]], old=[[0.0]], advantages=[advantage])


@pytest.mark.proves("loss.clip", "vector", "table")
@pytest.mark.parametrize(
    ("advantage", "ratio", "dual", "expected"),
    [
        (1.0, 1.5, 0.0, -1.28),  # max(-1.5, -1.28): the upper end 1 + 0.28
        (-1.0, 0.5, 0.0, 0.8),  # max(0.5, 0.8): the lower end 1 - 0.2
        (-1.0, 5.0, 0.0, 5.0),  # max(5, 1.28): unbounded above without the dual clip
        (-1.0, 5.0, 3.0, 3.0),  # min(5, 3)
        (1.0, 1.1, 0.0, -1.1),  # inside: -A rho
        (1.0, 5.0, 3.0, -1.28),  # the dual clip leaves positive advantages alone
    ],
)
def test_clip_by_hand(advantage, ratio, dual, expected):
    assert Clip(dual_clip=dual, **HIGHER)(one_token(advantage, ratio)).loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.proves("loss.clip", "table")
@pytest.mark.proves("loss.stable_clip", "table")
def test_clip_flags_name_the_end_that_took_the_gradient():
    logp = torch.tensor([[1.5, 0.5, 1.0], [1.5, 0.5, 1.0]], dtype=torch.float64).log()
    for piece in (Clip(**HIGHER), StableClip(**HIGHER)):
        found = piece(batch_of(logp, old=torch.zeros(2, 3), advantages=[1.0, -1.0]))
        assert found.clipped_high.tolist() == [[True, False, False], [False, False, False]]
        assert found.clipped_low.tolist() == [[False, False, False], [False, True, False]]


@pytest.mark.proves("loss.clip", "float64")
@pytest.mark.proves("loss.stable_clip", "float64")
@given(st.floats(-8, 8), st.floats(-3, 3), st.floats(-2, 2), st.floats(0.01, 0.9), st.floats(0.01, 2))
def test_clip_equals_the_slow_reference(logp, old, advantage, low, high):
    def slow(rho):
        return max(-advantage * rho, -advantage * min(max(rho, 1 - low), 1 + high))

    batch = batch_of([[logp]], old=[[old]], advantages=[advantage])
    assert Clip(low, high)(batch).loss.item() == pytest.approx(slow(math.exp(logp - old)), rel=1e-12, abs=1e-12)
    held = min(max(math.exp(logp - old), 0.01), 100.0)
    assert StableClip(low, high, max_ratio=100.0)(batch).loss.item() == pytest.approx(slow(held), rel=1e-9, abs=1e-9)


@pytest.mark.proves("loss.clip", "law")
@pytest.mark.proves("loss.stable_clip", "law")
@given(st.integers(0, 999))
def test_on_policy_the_gradient_is_plain_policy_gradient(seed):
    # rho = 1 inside the clip range: d(-A rho)/d logp = -A rho = -A, on trained tokens only
    batch = random_batch(seed, spread=0.0, requires_grad=True)
    for piece in (Clip(), Clip(dual_clip=3.0), StableClip()):
        assert torch.allclose(gradient(piece, batch), -batch.advantages * batch.mask, atol=1e-12)


@pytest.mark.proves("loss.clip", "law")
def test_a_broken_sampler_gives_a_finite_loss():
    found = Clip()(batch_of(torch.zeros(1, 1), old=torch.full((1, 1), -1e4), advantages=[-1.0]))
    assert torch.isfinite(found.loss).all()


@pytest.mark.proves("loss.stable_clip", "vector")
@pytest.mark.parametrize(("log_ratio", "ratio"), [(-10.0, 0.001), (0.0, 1.0), (10.0, 1000.0)])
def test_pre_clip_golden_vector(log_ratio, ratio):
    # With A = -1 and rho above the range, the loss is the ratio itself; below it, the lower end 1 - 0.999999.
    found = StableClip(eps_low=1.0, eps_high=0.2)(batch_of([[log_ratio]], old=[[0.0]], advantages=[-1.0]))
    assert found.loss.item() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.proves("loss.stable_clip", "law")
def test_a_held_ratio_has_no_gradient():
    logp = torch.tensor([[10.0, 0.1]], dtype=torch.float64, requires_grad=True)
    batch = batch_of(logp, old=torch.zeros(1, 2), advantages=[-1.0])
    assert gradient(StableClip(), batch)[0, 0] == 0.0 and gradient(StableClip(), batch)[0, 1] > 0.0


def filtered(piece, rows, make, ctx):
    group = make([1] * len(rows), lengths=[len(row) for row in rows])
    for rollout, row in zip(group.rollouts, rows, strict=True):
        rollout.token_advantages, rollout.advantage = list(row), row[0]
    piece.apply(ctx, [group])
    return [rollout.per_token_advantages() for rollout in group.rollouts]


@pytest.mark.proves("weigh.advantage_filter", "table")
def test_the_filter_by_hand(group_of, context):
    # tokens 0 x 15 and one 4: mean .25, squares 15 * .0625 + 14.0625 = 15, n-1 variance 1 -> z -.25 and 3.75: beyond 3
    rows = [[0.0] * 15, [4.0]]
    assert filtered(AdvantageFilter(), rows, group_of, context()) == [pytest.approx([-0.25] * 15, abs=1e-6), [0.0]]
    # the code's window is .25 +- 3: 3.75 is still out, 3.2 is in (one 3.2 wide window instead: width 3.5 keeps it there only)
    wide = {"width": 3.5}
    assert filtered(AdvantageFilter(**wide), rows, group_of, context())[1] == [0.0]
    assert filtered(AdvantageFilter(variant="code", **wide), rows, group_of, context())[1] == pytest.approx([3.75], abs=1e-6)


@pytest.mark.proves("weigh.advantage_filter", "table")
def test_what_is_not_a_number_or_too_large_is_dropped_and_harms_nobody(group_of, context):
    # 1 and -1 stay: mean 0, n-1 variance 2 -> +-.707107
    found = filtered(AdvantageFilter(), [[1.0], [float("nan")], [-1.0], [11.0], [float("inf")]], group_of, context())
    assert found == [pytest.approx([0.7071068], abs=1e-6), [0.0], pytest.approx([-0.7071068], abs=1e-6), [0.0], [0.0]]


@pytest.mark.proves("weigh.advantage_filter", "law", "float64")
@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), min_size=1, max_size=6), st.randoms())
def test_the_filter_equals_its_slow_reference_and_follows_a_permutation(rows, rng):
    from factory.contracts import Message, Sample
    from factory.rewards.mixture import Reward
    from factory.stages.rl.context import StepContext
    from factory.stages.rl.rollouts import Group, Rollout

    def make(values, lengths):
        sample = Sample(id="s", task="t", messages=(Message("user", "q"),), reference="a")
        reward = Reward(1.0, False, False, {}, {}, {})
        return Group(sample, [Rollout(0, i, [7] * n, [-1.0] * n, True, 0, reward=reward) for i, n in enumerate(lengths)])

    ctx = StepContext(0, 1, 0, 64, 8)
    found = filtered(AdvantageFilter(), rows, make, ctx)
    flat = [a for row in rows for a in row]
    scale = math.sqrt((statistics.variance(flat) if len(flat) > 1 else 0.0) + 1e-8)
    for row, own in zip(rows, found, strict=True):
        for a, z in zip(row, own, strict=True):
            slow = (a - statistics.fmean(flat)) / scale
            if abs(abs(slow) - 3.0) > 1e-6:
                assert z == pytest.approx(slow if abs(slow) <= 3.0 else 0.0, rel=1e-5, abs=1e-5)
            assert abs(z) <= 3.0
    order = list(range(len(rows)))
    rng.shuffle(order)
    shuffled = filtered(AdvantageFilter(), [rows[i] for i in order], make, ctx)
    for place, i in enumerate(order):
        assert shuffled[place] == pytest.approx(found[i], abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clip(eps_low=0.0), "eps_low must be in"),
        (lambda: Clip(dual_clip=0.5), "dual_clip must be above 1"),
        (lambda: StableClip(max_ratio=1.1), "max_ratio must be above"),
        (lambda: AdvantageFilter(variant="mean"), "variant='mean' is not known"),
        (lambda: AdvantageFilter(width=0.0), "width and max_abs"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
