"""The pieces of the RL step against tables worked out by hand, and against laws that hold for any input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Sample
from factory.errors import ConfigError, DataError, TrainingError
from factory.stages.rl.pieces import kl
from factory.stages.rl.pieces.advantage import centred, has_spread, standardised, uncentred
from factory.stages.rl.pieces.aggregate import constant_length, counts, seq_mean_token_mean, token_mean
from factory.stages.rl.pieces.overlong import soft_punishment
from factory.stages.rl.pieces.policy_loss import clipped_surrogate
from factory.stages.rl.pieces.registry import NEEDS, PIECES, pick
from factory.stages.rl.pieces.sampler import PromptSampler
from factory.stages.rl.pieces.supply import Supply, collect

scores = st.lists(st.one_of(st.none(), st.floats(0, 1, width=32)), min_size=1, max_size=12)


def test_grpo_advantage_by_hand():
    # r = 1,0,0,1,1,0,0,0: mean 3/8; squares 3*(5/8)^2 + 5*(3/8)^2 = 120/64; variance 120/64/7 = 0.267857, std 0.517549
    # right: 0.625 / (0.517549 + 1e-6) = 1.207612; wrong: -0.375 / 0.517550 = -0.724567
    right, wrong = 1.207612, -0.724567
    assert standardised([1, 0, 0, 1, 1, 0, 0, 0]) == pytest.approx(
        [right, wrong, wrong, right, right, wrong, wrong, wrong], abs=1e-6
    )


def test_dr_grpo_advantage_by_hand():
    # the same rewards minus their mean 3/8
    assert centred([1, 0, 0, 1, 1, 0, 0, 0]) == [0.625, -0.375, -0.375, 0.625, 0.625, -0.375, -0.375, -0.375]


def test_a_masked_rollout_is_not_in_the_group_statistics():
    # without the masked one: 1,0 -> mean 1/2, variance 2*(1/2)^2/1 = 1/2, std 0.707107; 0.5/0.707108 = 0.707106
    assert standardised([1.0, None, 0.0]) == pytest.approx([0.7071058, 0.0, -0.7071058], abs=1e-6)
    assert standardised([1.0, 0.0]) == [standardised([1.0, None, 0.0])[0], standardised([1.0, None, 0.0])[2]]


@pytest.mark.parametrize("group", [[0.1] * 7, [1.0, None, None], [None, None], [0.3]])
def test_a_group_without_comparison_gets_exact_zeros(group):
    assert standardised(group) == [0.0] * len(group)
    assert centred(group) == [0.0] * len(group)
    assert not has_spread(group)


@given(scores)
def test_advantages_sum_to_zero_over_live_rollouts(group):
    for piece in (standardised, centred):
        found = piece(group)
        assert abs(sum(found)) <= 1e-9 * max(1.0, sum(map(abs, found)))
        assert all(advantage == 0.0 for advantage, score in zip(found, group, strict=True) if score is None)


@given(st.lists(st.integers(0, 10), min_size=2, max_size=9), st.integers(-5, 5), st.randoms())
def test_advantages_ignore_a_shift_and_follow_a_permutation(group, shift, rng):
    base = standardised([float(r) for r in group])
    assert standardised([float(r + shift) for r in group]) == pytest.approx(base, abs=1e-9)
    order = list(range(len(group)))
    rng.shuffle(order)
    assert standardised([float(group[i]) for i in order]) == pytest.approx([base[i] for i in order], abs=1e-12)


def test_no_baseline_gives_the_score_and_nothing_to_the_masked():
    assert uncentred([0.25, None, 1.0]) == [0.25, 0.0, 1.0]


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
def test_clipped_surrogate_by_hand(advantage, ratio, dual, expected):
    logp = torch.tensor([[math.log(ratio)]])
    found = clipped_surrogate(logp, torch.zeros(1, 1), torch.tensor([advantage]), eps_low=0.2, eps_high=0.28, dual_clip=dual)
    assert found.loss.item() == pytest.approx(expected, abs=1e-6)


def test_clip_flags_name_the_end_that_took_the_gradient():
    ratios = torch.tensor([[1.5, 0.5, 1.0], [1.5, 0.5, 1.0]])
    found = clipped_surrogate(ratios.log(), torch.zeros(2, 3), torch.tensor([1.0, -1.0]), eps_low=0.2, eps_high=0.28)
    assert found.clipped_high.tolist() == [[True, False, False], [False, False, False]]
    assert found.clipped_low.tolist() == [[False, False, False], [False, True, False]]


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-2, 2), st.floats(0.01, 0.9), st.floats(0.01, 2))
def test_clipped_surrogate_equals_the_slow_reference(logp, old, advantage, low, high):
    rho = math.exp(logp - old)
    slow = max(-advantage * rho, -advantage * min(max(rho, 1 - low), 1 + high))
    args = (
        torch.tensor([[logp]], dtype=torch.float64),
        torch.tensor([[old]], dtype=torch.float64),
        torch.tensor([advantage], dtype=torch.float64),
    )
    assert clipped_surrogate(*args, eps_low=low, eps_high=high).loss.item() == pytest.approx(slow, rel=1e-12, abs=1e-12)


def test_on_policy_the_gradient_is_plain_policy_gradient():
    # rho = 1 inside the clip range: d(-A rho)/d logp = -A rho = -A
    logp = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    clipped_surrogate(logp, logp.detach(), torch.tensor([2.0, -0.5]), eps_low=0.2, eps_high=0.28).loss.sum().backward()
    assert logp.grad.tolist() == [[-2.0, -2.0], [0.5, 0.5]]


def test_a_broken_sampler_gives_a_finite_loss():
    found = clipped_surrogate(torch.zeros(1, 1), torch.full((1, 1), -1e4), torch.tensor([-1.0]), eps_low=0.2, eps_high=0.2)
    assert torch.isfinite(found.loss).all()


LOSSES = torch.tensor([[1.0, 1, 9, 9, 9, 9], [3, 3, 3, 3, 3, 3]])
MASK = torch.tensor([[1.0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (token_mean, 2.5),  # (1+1 + 6*3) / 8
        (seq_mean_token_mean, 2.0),  # (2/2 + 18/6) / 2
        (constant_length, 1.25),  # 20 / (2 rollouts * 8)
    ],
)
def test_aggregators_by_hand(piece, expected):
    assert piece(LOSSES, MASK, counts(MASK), max_length=8).item() == pytest.approx(expected)


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**31), st.data())
def test_aggregated_shares_do_not_depend_on_the_split(rows, columns, seed, data):
    generator = torch.Generator().manual_seed(seed)
    loss = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, 2, (rows, columns), generator=generator).double()
    cut = data.draw(st.integers(0, rows))
    totals = counts(mask)
    assert totals == {key: counts(mask[:cut])[key] + counts(mask[cut:])[key] for key in totals}
    for piece in (token_mean, seq_mean_token_mean, constant_length):
        whole = piece(loss, mask, totals, max_length=5)
        parts = piece(loss[:cut], mask[:cut], totals, max_length=5) + piece(loss[cut:], mask[cut:], totals, max_length=5)
        assert parts.item() == pytest.approx(whole.item(), abs=1e-12)


def test_masked_tokens_have_exactly_zero_gradient():
    for piece in (token_mean, seq_mean_token_mean, constant_length):
        loss = LOSSES.clone().requires_grad_()
        piece(loss, MASK, counts(MASK), max_length=8).backward()
        assert torch.equal(loss.grad == 0, MASK == 0)


def test_kl_estimators_by_hand():
    # logp -1, ref -1.5: d = -0.5; k1 = 0.5; k2 = 0.125; k3 = exp(-0.5) + 0.5 - 1 = 0.1065307
    logp, ref = torch.tensor([-1.0]), torch.tensor([-1.5])
    assert kl.k1(logp, ref).item() == pytest.approx(0.5)
    assert kl.k2(logp, ref).item() == pytest.approx(0.125)
    assert kl.k3(logp, ref).item() == pytest.approx(0.1065307, abs=1e-7)


@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=6), st.lists(st.floats(0.05, 1.0), min_size=6, max_size=6))
def test_k1_and_k3_are_unbiased_and_k2_has_the_right_gradient(p_weights, q_weights):
    p = torch.tensor(p_weights, dtype=torch.float64)
    p = p / p.sum()
    q = torch.tensor(q_weights[: len(p)], dtype=torch.float64)
    q = q / q.sum()
    exact = (p * (p / q).log()).sum().item()
    assert (p * kl.k1(p.log(), q.log())).sum().item() == pytest.approx(exact, abs=1e-12)
    assert (p * kl.k3(p.log(), q.log())).sum().item() == pytest.approx(exact, abs=1e-12)
    assert (kl.k3(p.log(), q.log()) >= -1e-12).all()
    # E_p[grad k2] = E_p[log(p/q) grad log p], which is the gradient of the KL in the logits
    logits = p.log().clone().requires_grad_()
    logp = logits.log_softmax(0)
    (p * kl.k2(logp, q.log())).sum().backward()
    slow = logits.detach().clone().requires_grad_()
    distribution = slow.log_softmax(0)
    (distribution.exp() * (distribution - q.log())).sum().backward()
    assert torch.allclose(logits.grad, slow.grad, atol=1e-12)


@pytest.mark.parametrize(("length", "expected"), [(16384, 0.0), (18432, -0.5), (20480, -1.0), (20481, -1.0), (1, 0.0)])
def test_soft_punishment_by_hand(length, expected):
    # L_max 20480, cache 4096: starts at 16384, falls by 1/4096 per token
    assert soft_punishment(length, max_length=20480, cache=4096) == pytest.approx(expected)


def test_soft_punishment_scales_and_switches_off():
    assert soft_punishment(20480, max_length=20480, cache=4096, factor=0.5) == -0.5
    assert soft_punishment(20480, max_length=20480, cache=0) == 0.0


def _samples(num):
    return [Sample(id=f"s{i}", task="t", messages=(Message("user", str(i)),), reference=i) for i in range(num)]


@given(st.integers(1, 9), st.lists(st.integers(0, 7), max_size=6), st.integers(0, 99))
def test_sampler_resumes_exactly_and_each_pass_is_a_permutation(pool, draws, seed):
    one = PromptSampler(_samples(pool), seed=seed)
    seen = [sample.id for num in draws for sample in one.draw(num)]
    for start in range(0, len(seen) - pool + 1, pool):
        assert sorted(seen[start : start + pool]) == sorted(s.id for s in _samples(pool))
    other = PromptSampler(_samples(pool), seed=seed)
    other.load_state_dict(one.state_dict())
    assert [s.id for s in other.draw(2 * pool)] == [s.id for s in one.draw(2 * pool)]


def test_sampler_refuses_another_pool_and_an_empty_one():
    with pytest.raises(DataError, match="made with 3 prompts, the pool now has 4"):
        PromptSampler(_samples(4), seed=0).load_state_dict({"drawn": 1, "pool": 3})
    with pytest.raises(DataError, match="no training samples"):
        PromptSampler([], seed=0)


def _collect(supply, pattern):
    """Groups are bools: True has spread. `pattern` is what the endless stream of prompts gives."""
    stream, sizes = iter(pattern), []
    found = collect(
        supply,
        draw=lambda num: sizes.append(num) or _samples(num),
        rollout=lambda samples, _: [next(stream) for _ in samples],
        is_useful=bool,
    )
    return found, sizes


def test_fixed_supply_trains_on_what_was_drawn():
    found, sizes = _collect(Supply(4), [False] * 4)
    assert (len(found.kept), sizes, found.is_spent) == (4, [4], False)


def test_oversampling_keeps_at_most_the_wanted_groups():
    supply = Supply(4, oversample=2.0, drop_equal=True, on_spent="train_smaller")
    found, sizes = _collect(supply, [True] * 8)
    assert (len(found.kept), len(found.drawn), sizes) == (4, 8, [8])
    found, _ = _collect(supply, [True] + [False] * 7)
    assert (len(found.kept), found.is_spent) == (1, True)


def test_refills_draw_what_is_missing_over_the_share_kept():
    # 4 wanted; first draw keeps 2 of 4; missing 2 at share 1/2 -> 4 more prompts; those keep 2
    found, sizes = _collect(Supply(4, max_refills=5, drop_equal=True), [True, False] * 4)
    assert (len(found.kept), sizes, found.num_refills, found.is_spent) == (4, [4, 4], 1, False)


def test_a_spent_refill_budget_ends_as_asked():
    supply = Supply(4, max_refills=2, drop_equal=True)
    with pytest.raises(TrainingError, match=r"only 0 of 4 groups .* after 12 prompts \(2 refills"):
        _collect(supply, [False] * 99)
    for on_spent in ("train_smaller", "stop"):
        found, sizes = _collect(Supply(4, max_refills=2, drop_equal=True, on_spent=on_spent), [True] + [False] * 98)
        assert (len(found.kept), found.is_spent, sizes[0], len(sizes)) == (1, True, 4, 3)
    with pytest.raises(ConfigError, match="on_spent='explode'"):
        Supply(4, on_spent="explode")


@given(st.integers(1, 8), st.integers(0, 5), st.lists(st.booleans(), min_size=200, max_size=200))
def test_collected_groups_never_exceed_wanted_and_draws_stay_in_budget(wanted, refills, pattern):
    found, sizes = _collect(Supply(wanted, max_refills=refills, drop_equal=True, on_spent="train_smaller"), pattern)
    assert len(found.kept) <= wanted and all(found.kept)
    assert len(sizes) <= 1 + refills and all(1 <= size <= wanted for size in sizes)
    assert found.is_spent == (len(found.kept) < wanted)
    assert not found.is_spent or len(sizes) == 1 + refills


def test_every_piece_declares_needs_whose_cost_is_known():
    assert all(piece.needs <= set(NEEDS) and piece.source for piece in PIECES)
    assert len({(piece.slot, piece.name) for piece in PIECES}) == len(PIECES)
    with pytest.raises(ConfigError, match="Did you mean 'group_std'"):
        pick("advantage", "group_sdt")
