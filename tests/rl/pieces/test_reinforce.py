"""REINFORCE++: token returns and whitening over the step; the plain policy gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import batch_of, gradient, random_batch

from factory.stages.rl.pieces.reinforce import (
    Reinforce,
    ReinforcePp,
    ReinforcePpBaseline,
    token_returns,
    token_rewards,
    whitened,
)
from factory.stages.rl.rollouts import Span

BOTH = ("sample", "population")
values = st.lists(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6), min_size=1, max_size=5)


def advantages(groups):
    return [[rollout.advantage for rollout in group.rollouts] for group in groups]


@pytest.mark.proves("advantage.reinforce_pp_baseline", "vector", "table")
def test_baseline_golden_vector(group_of, context):
    # groups 1,0,0,0 and 1,1,1,0, one token each. Minus the means 1/4 and 3/4: .75,-.25 x3 | .25 x3,-.75; the whole has mean 0
    # and squares 2*(.5625 + 3*.0625) = 1.5; n-1: 1.5/7 -> std .462910: 1.620185, .540062; n: 1.5/8 -> .433013: 1.732051, .577350
    for variance, large, small in (("sample", 1.620185, 0.540062), ("population", 1.732051, 0.577350)):
        groups = [group_of([1, 0, 0, 0], lengths=[1] * 4), group_of([1, 1, 1, 0], place=1, lengths=[1] * 4)]
        ReinforcePpBaseline(variance).estimate(context(), groups)
        assert advantages(groups) == [
            pytest.approx([large, -small, -small, -small], abs=1e-6), pytest.approx([small, small, small, -large], abs=1e-6),
        ]  # fmt: skip


@pytest.mark.proves("advantage.reinforce_pp", "table")
def test_without_kl_every_token_has_the_whitened_score(group_of, context):
    # scores 1 (one token) and 0 (three tokens): tokens 1,0,0,0: mean 1/4, squares .75, n-1 variance 1/4, std 1/2 -> 1.5 and -.5
    groups = [group_of([1, 0], lengths=[1, 3])]
    ReinforcePp().estimate(context(), groups)
    assert advantages(groups) == [pytest.approx([1.5, -0.5], abs=1e-6)]
    assert all(not rollout.token_advantages for rollout in groups[0].rollouts)


@pytest.mark.proves("advantage.reinforce_pp", "table")
def test_a_kl_in_the_reward_is_charged_to_each_token(rollout_of, group_of, context):
    # beta .1; logp - ref = 1, 2 -> -.1, -.2; score 1 on the last token: r = -.1, .8; gamma 1: R = .7, .8; gamma .5: R = .3, .8
    one = rollout_of(value=1.0, tokens=2, logprobs=[-1.0, -1.0], ref_logprobs=[-2.0, -3.0])
    one.shaping["kl"] = -0.3
    one.mixed = 1.0 - 0.3
    assert token_rewards(one, 0.1) == pytest.approx([-0.1, 0.8])
    assert token_returns([-0.1, 0.8], [1, 1], 1.0) == pytest.approx([0.7, 0.8])
    assert token_returns([-0.1, 0.8], [1, 1], 0.5) == pytest.approx([0.3, 0.8])
    # whitened over the two tokens: mean .75, n-1 variance .005 -> +-.05 / .0707107 = +-.707106
    group = group_of([1])
    group.rollouts = [one]
    ReinforcePp().estimate(context(kl_coef=0.1), [group])
    assert one.token_advantages == pytest.approx([-0.7071061, 0.7071061], abs=1e-5) and one.advantage == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.proves("advantage.reinforce_pp", "table")
def test_injected_tokens_neither_pay_nor_discount(rollout_of):
    one = rollout_of(value=1.0, tokens=4)
    one.spans = [Span(0, 1, "policy"), Span(1, 3, "injected"), Span(3, 4, "policy")]
    assert token_rewards(one, 0.0) == [0, 0, 0, 1]
    assert token_returns([0, 5, 5, 1], one.trained(), 0.5) == [0.5, 0, 0, 1]


@pytest.mark.proves("advantage.reinforce_pp", "law")
@pytest.mark.proves("advantage.reinforce_pp_baseline", "law")
@given(values, st.sampled_from(BOTH), st.randoms())
def test_whitened_values_have_mean_0_and_deviation_1_and_follow_a_permutation(rows, variance, rng):
    trained = [[1] * len(row) for row in rows]
    found = [x for row in whitened(rows, trained, variance) for x in row]
    flat = [x for row in rows for x in row]
    assert sum(found) == pytest.approx(0.0, abs=1e-6 * len(found))
    if max(flat) - min(flat) > 0.1:
        divisor = len(found) - (variance == "sample")
        assert math.fsum(x * x for x in found) / divisor == pytest.approx(1.0, abs=1e-4)
    elif max(flat) == min(flat):
        assert not any(found)
    order = list(range(len(rows)))
    rng.shuffle(order)
    shuffled = whitened([rows[i] for i in order], [trained[i] for i in order], variance)
    base = whitened(rows, trained, variance)
    for place, i in enumerate(order):
        assert shuffled[place] == pytest.approx(base[i], abs=1e-9)


@pytest.mark.proves("advantage.reinforce_pp", "float64")
@pytest.mark.proves("advantage.reinforce_pp_baseline", "float64")
@given(values, st.sampled_from(BOTH), st.integers(0, 99), st.floats(0.1, 1.0))
def test_returns_and_whitening_equal_torch(rows, variance, seed, gamma):
    rng = torch.Generator().manual_seed(seed)
    trained = [[1, *torch.randint(0, 2, (len(row) - 1,), generator=rng).tolist()] for row in rows]
    returns = [token_returns(row, mask, gamma) for row, mask in zip(rows, trained, strict=True)]
    for row, mask, own in zip(rows, trained, returns, strict=True):
        kept = [t for t, m in enumerate(mask) if m]
        for n, t in enumerate(kept):
            slow = sum(gamma ** (later - n) * row[kept[later]] for later in range(n, len(kept)))
            assert own[t] == pytest.approx(slow, abs=1e-9)
    flat = torch.tensor(
        [x for r, m in zip(rows, trained, strict=True) for x, one in zip(r, m, strict=True) if one], dtype=torch.float64
    )
    if len(flat) < 2:
        return
    slow = (flat - flat.mean()) / (flat.var(correction=1 if variance == "sample" else 0) + 1e-8).sqrt()
    found = whitened(rows, trained, variance)
    kept = [x for r, m in zip(found, trained, strict=True) for x, one in zip(r, m, strict=True) if one]
    assert kept == pytest.approx(slow.tolist(), rel=1e-6, abs=1e-6)
    assert all(x == 0.0 for r, m in zip(found, trained, strict=True) for x, one in zip(r, m, strict=True) if not one)


@pytest.mark.proves("advantage.reinforce_pp_baseline", "law")
@pytest.mark.proves("advantage.reinforce_pp", "law")
def test_masked_rollouts_change_nothing(group_of, context):
    for piece in (ReinforcePp(), ReinforcePpBaseline()):
        plain, masked = [group_of([1, 0, 1])], [group_of([1, None, 0, 1, None])]
        piece.estimate(context(), plain)
        piece.estimate(context(), masked)
        assert [masked[0].rollouts[i].advantage for i in (0, 2, 3)] == [r.advantage for r in plain[0].rollouts]
        assert masked[0].rollouts[1].advantage == 0.0
    alone = [group_of([1, None]), group_of([1, 0], place=1)]
    ReinforcePpBaseline().estimate(context(), alone)
    assert alone[0].rollouts[0].advantage == 0.0, "a lone rollout has no baseline"
    ReinforcePp().estimate(context(), [])


@pytest.mark.proves("loss.reinforce", "table")
def test_the_policy_gradient_by_hand():
    assert Reinforce()(batch_of([[-1.0, -2.0]], advantages=[-0.5])).loss.tolist() == [[-0.5, -1.0]]


@pytest.mark.proves("loss.reinforce", "law", "float64")
@given(st.integers(0, 999))
def test_the_gradient_of_reinforce_is_minus_the_advantage_on_trained_tokens(seed):
    batch = random_batch(seed, requires_grad=True)
    assert torch.equal(gradient(Reinforce(), batch), -batch.advantages * batch.mask)


@pytest.mark.parametrize(
    "make", [lambda: ReinforcePp(gamma=0.0), lambda: ReinforcePp(variance="n"), lambda: ReinforcePpBaseline("n-1")]
)
def test_wrong_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"gamma must be|is not known. Choose one of: sample, population"):
        make()
