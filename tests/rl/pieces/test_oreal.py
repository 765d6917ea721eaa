"""OREAL: the two branches with their denominators, the pair that trains, the token weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import batch_of, gradient, random_batch

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.aggregate import TokenMean
from factory.stages.rl.pieces.oreal import RIGHT, WRONG, Oreal, OrealPair, right_weights, wrong_weights


def with_totals(batch, right):
    """The batch with right rollouts marked and both denominators counted, as the objective does before the first forward."""
    raw = {"policy_mask": batch.mask, "right": torch.tensor(right)}
    totals = {**batch.totals, **Oreal().counts(raw)}
    return batch_of(batch.logp, old=batch.old, mask=batch.mask, advantages=batch.advantages, right=right, totals=totals)


def total(piece, batch):
    return TokenMean()(piece(batch).loss, batch.mask, batch.totals, max_length=9)


@pytest.mark.proves("loss.oreal", "vector")
def test_token_weight_golden_vectors():
    assert right_weights([2, 0, -2]) == pytest.approx([0.761594, 0.462117, 0.0], abs=1e-6)
    assert wrong_weights([-2, -1, 1]) == pytest.approx([0.761594, 0.635149, 0.321513], abs=1e-6)


@pytest.mark.proves("loss.oreal", "law")
@given(st.lists(st.floats(-20, 20), max_size=8))
def test_token_weights_are_shares_and_one_side_is_zero(scores):
    for right, wrong in zip(right_weights(scores), wrong_weights(scores), strict=True):
        assert 0.0 <= right <= 1.0 and 0.0 <= wrong <= 1.0 and right * wrong == 0.0


@pytest.mark.proves("loss.oreal", "table")
def test_oreal_by_hand():
    # right: 2 tokens, A .8, logp -1 and -2: (1 + 2) * .8 / 2 * 1.0 = 1.2
    # wrong: 3 tokens, A -.2: each -(1 * -.2) = .2: 3 * .2 / 3 * 0.5 = .1; together 1.3
    batch = batch_of([[-1.0, -2.0, 0.0], [-1.0, -1.0, -5.0]], mask=[[1, 1, 0], [1, 1, 1]], advantages=[0.8, -0.2])
    batch = with_totals(batch, [1.0, 0.0])
    assert (batch.totals[RIGHT], batch.totals[WRONG]) == (2.0, 3.0)
    assert total(Oreal(), batch).item() == pytest.approx(1.3)
    # without the advantage: (1 + 2) / 2 = 1.5, plus .1
    assert total(Oreal(times_advantage=False), batch).item() == pytest.approx(1.6)


@pytest.mark.proves("loss.oreal", "float64", "law")
@given(st.integers(0, 9999), st.lists(st.booleans(), min_size=4, max_size=4))
def test_the_gradient_is_policy_gradient_with_a_denominator_each_whatever_the_split(seed, sides):
    right = [float(side) for side in sides]
    batch = with_totals(random_batch(seed, rows=4, requires_grad=True), right)
    (found,) = torch.autograd.grad(total(Oreal(), batch), batch.logp)
    is_right = torch.tensor(right, dtype=torch.float64).unsqueeze(1)
    n_right, n_wrong = float((batch.mask * is_right).sum()), float((batch.mask * (1 - is_right)).sum())
    scale = is_right / max(n_right, 1.0) + 0.5 * (1 - is_right) / max(n_wrong, 1.0)
    torch.testing.assert_close(found, -batch.advantages * scale * batch.mask, rtol=1e-9, atol=1e-12)
    halves = []
    for rows in (slice(0, 1), slice(1, 4)):
        part = batch_of(
            batch.logp[rows], old=batch.old[rows], mask=batch.mask[rows], advantages=batch.advantages[rows],
            right=right[rows], totals=batch.totals,
        )  # fmt: skip
        halves.append(total(Oreal(), part).item())
    assert sum(halves) == pytest.approx(total(Oreal(), batch).item(), abs=1e-12)
    masked = gradient(Oreal(), batch)
    assert not masked[batch.mask == 0].any()


@pytest.mark.proves("resample.oreal_pair", "table")
def test_mixed_groups_keep_one_of_each_side_and_others_go(group_of, context):
    groups = [
        group_of([1, 1, 1], name="a"),
        group_of([0, 1, 0, None], name="b"),
        group_of([0, 0], name="c"),
        group_of([None, 1], name="d"),
    ]
    kept = OrealPair().apply(context(), groups)
    assert [group.sample.id for group in kept] == ["b"]
    assert [r.right for r in kept[0].rollouts] == [True, False] and kept[0].rollouts[1].index in (0, 2)
    assert len(groups[1].rollouts) == 4, "the step's own groups stay whole"


@pytest.mark.proves("resample.oreal_pair", "law")
def test_the_pair_depends_on_step_and_sample_only_and_reaches_every_rollout(group_of, context):
    seen = set()
    for step in range(60):
        group = group_of([1, 1, 1, 0, 0, 0], name="x")
        pair = [r.index for r in OrealPair().apply(context(step), [group])[0].rollouts]
        group.rollouts.reverse()
        again = OrealPair().apply(context(step), [group_of([0, 1], name="other"), group])[1]
        assert [r.index for r in again.rollouts] == pair
        seen.add(tuple(pair))
    assert seen == {(right, wrong) for right in (0, 1, 2) for wrong in (3, 4, 5)}


@pytest.mark.proves("resample.oreal_pair", "law")
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), max_size=5), st.integers(0, 50))
def test_every_kept_group_is_a_right_and_a_wrong_one(rows, step):
    from factory.contracts import Message, Sample
    from factory.rewards.mixture import Reward
    from factory.stages.rl.rollouts import Group, Rollout

    def rollout(index, value):
        reward = Reward(value, False, False, {}, {}, {})
        return Rollout(0, index, [7], [-1.0], True, 0, reward=reward, right=value == 1.0)

    groups = [
        Group(
            Sample(id=f"s{i}", task="t", messages=(Message("user", "q"),), reference="a"),
            [rollout(j, v) for j, v in enumerate(row)],
        )
        for i, row in enumerate(rows)
    ]
    kept = OrealPair().apply(StepContext(step, 100, 3, 64, 8), groups)
    assert [group.sample.id for group in kept] == [f"s{i}" for i, row in enumerate(rows) if len(set(row)) == 2]
    assert all([r.right for r in group.rollouts] == [True, False] for group in kept)


def test_negative_coefficients_are_refused():
    with pytest.raises(ValueError, match="right_coef and wrong_coef"):
        Oreal(wrong_coef=-0.5)
