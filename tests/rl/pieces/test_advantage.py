"""Advantages of single groups and of whole steps: golden vectors, tables, laws, and slow references."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import BatchStd, GroupMean, GroupStd, LeaveOneOut, NoBaseline, has_spread
from factory.stages.rl.rollouts import Group, Rollout

scores = st.lists(st.one_of(st.none(), st.floats(0, 1, width=32)), min_size=1, max_size=12)
steps = st.lists(scores, min_size=1, max_size=5)
GRPO_REWARDS = [1, 0, 0, 1, 1, 0, 0, 0]


def groups_of(rows):
    """Groups whose scores are `rows` (None: masked)."""
    sample = Sample(id="s", task="t", messages=(Message("user", "q"),), reference="a")

    def rollout(place, index, score):
        one = Rollout(place, index, [7], [-1.0], True, 0)
        one.outcome = one.mixed = score
        return one

    return [Group(sample, [rollout(p, i, s) for i, s in enumerate(row)]) for p, row in enumerate(rows)]


def estimated(piece, rows):
    """Advantages of all groups, as lists."""
    groups = groups_of(rows)
    piece.estimate(StepContext(0, 10, 0, 64, 8), groups)
    return [[rollout.advantage for rollout in group.rollouts] for group in groups]


@pytest.mark.proves("advantage.group_std", "vector", "table")
def test_grpo_by_hand():
    # r = 1,0,0,1,1,0,0,0: mean 3/8; squares 3*(5/8)^2 + 5*(3/8)^2 = 120/64; variance 120/64/7 = 0.267857, std 0.517549
    # right: 0.625 / (0.517549 + 1e-6) = 1.207612; wrong: -0.375 / 0.517550 = -0.724567
    right, wrong = 1.207612, -0.724567
    assert GroupStd().of(GRPO_REWARDS) == pytest.approx([right, wrong, wrong, right, right, wrong, wrong, wrong], abs=1e-6)


@pytest.mark.proves("advantage.group_mean", "vector", "table")
def test_dr_grpo_by_hand():
    # the same rewards minus their mean 3/8
    assert GroupMean().of(GRPO_REWARDS) == [0.625, -0.375, -0.375, 0.625, 0.625, -0.375, -0.375, -0.375]


@pytest.mark.proves("advantage.group_mean", "vector")
def test_one_right_of_eight_as_in_luffy():
    assert GroupMean().of([0] * 7 + [1]) == [-0.125] * 7 + [0.875]


@pytest.mark.proves("advantage.rloo", "vector", "table")
def test_rloo_by_hand():
    # right: 1 - 2/7 (two of the seven others are right) = 0.714286; wrong: 0 - 3/7 = -0.428571
    found = LeaveOneOut().of(GRPO_REWARDS)
    assert found == pytest.approx([5 / 7, -3 / 7, -3 / 7, 5 / 7, 5 / 7, -3 / 7, -3 / 7, -3 / 7], abs=1e-12)
    # OREAL: 16 rollouts, 4 right: 1 - 3/15 = 0.8; 0 - 4/15 = -0.266667
    assert LeaveOneOut().of([1] * 4 + [0] * 12) == pytest.approx([0.8] * 4 + [-4 / 15] * 12, abs=1e-12)


@pytest.mark.proves("advantage.batch_std", "table")
def test_batch_std_by_hand():
    # scores 1,0 | 1,1: mean 3/4, squares 3*(1/4)^2 + (3/4)^2 = 0.75, variance 0.75/3 = 1/4, std 1/2
    # first group: +-0.5 / (0.5 + 1e-4) = +-0.9998; second: all equal, 0
    assert estimated(BatchStd(), [[1, 0], [1, 1]]) == [pytest.approx([0.9998, -0.9998], abs=1e-6), [0.0, 0.0]]


@pytest.mark.proves("advantage.none", "table")
def test_no_baseline_gives_the_score_and_nothing_to_the_masked():
    assert NoBaseline().of([0.25, None, 1.0]) == [0.25, 0.0, 1.0]


@pytest.mark.proves("advantage.group_std", "table")
def test_a_masked_rollout_is_not_in_the_group_statistics():
    # without the masked one: 1,0 -> mean 1/2, variance 2*(1/2)^2/1 = 1/2, std 0.707107; 0.5/0.707108 = 0.707106
    assert GroupStd().of([1.0, None, 0.0]) == pytest.approx([0.7071058, 0.0, -0.7071058], abs=1e-6)
    for piece in (GroupStd(), GroupMean(), LeaveOneOut()):
        with_masked, without = piece.of([1.0, None, 0.0]), piece.of([1.0, 0.0])
        assert without == [with_masked[0], with_masked[2]]


@pytest.mark.proves("advantage.rloo", "law")
@pytest.mark.parametrize("group", [[0.1] * 7, [1.0, None, None], [None, None], [0.3]])
def test_a_group_without_comparison_gets_exact_zeros(group):
    for piece in (GroupStd(), GroupMean(), LeaveOneOut()):
        assert piece.of(group) == [0.0] * len(group)
    assert estimated(BatchStd(), [group, [1.0, 0.0]])[0] == [0.0] * len(group)
    assert not has_spread(group)


@pytest.mark.proves("advantage.group_std", "law")
@pytest.mark.proves("advantage.group_mean", "law")
@pytest.mark.proves("advantage.rloo", "law")
@given(scores)
def test_advantages_sum_to_zero_over_live_rollouts(group):
    for piece in (GroupStd(), GroupMean(), LeaveOneOut()):
        found = piece.of(group)
        assert abs(sum(found)) <= 1e-9 * max(1.0, sum(map(abs, found)))
        assert all(advantage == 0.0 for advantage, score in zip(found, group, strict=True) if score is None)


@pytest.mark.proves("advantage.batch_std", "law")
@given(steps, st.randoms())
def test_batch_std_sums_to_zero_in_each_group_and_follows_the_order_of_groups(rows, rng):
    found = estimated(BatchStd(), rows)
    assert all(abs(sum(group)) <= 1e-9 * max(1.0, sum(map(abs, group))) for group in found)
    order = list(range(len(rows)))
    rng.shuffle(order)
    shuffled = estimated(BatchStd(), [rows[i] for i in order])
    for place, i in enumerate(order):
        assert shuffled[place] == pytest.approx(found[i], rel=1e-9, abs=1e-9)


@pytest.mark.proves("advantage.none", "law")
@given(scores, st.randoms())
def test_no_baseline_follows_a_permutation_exactly(group, rng):
    order = list(range(len(group)))
    rng.shuffle(order)
    base = NoBaseline().of(group)
    assert NoBaseline().of([group[i] for i in order]) == [base[i] for i in order]


@pytest.mark.proves("advantage.group_std", "law")
@pytest.mark.proves("advantage.group_mean", "law")
@pytest.mark.proves("advantage.rloo", "law")
@given(st.lists(st.integers(0, 10), min_size=2, max_size=9), st.integers(-5, 5), st.randoms())
def test_advantages_ignore_a_shift_and_follow_a_permutation(group, shift, rng):
    order = list(range(len(group)))
    rng.shuffle(order)
    for piece in (GroupStd(), GroupMean(), LeaveOneOut()):
        base = piece.of([float(r) for r in group])
        assert piece.of([float(r + shift) for r in group]) == pytest.approx(base, abs=1e-9)
        assert piece.of([float(group[i]) for i in order]) == pytest.approx([base[i] for i in order], abs=1e-12)


@pytest.mark.proves("advantage.group_std", "float64")
@pytest.mark.proves("advantage.group_mean", "float64")
@pytest.mark.proves("advantage.rloo", "float64")
@given(scores)
def test_advantages_equal_their_slow_references(group):
    live = [score for score in group if score is not None]
    for i, score in enumerate(group):
        if score is None or len(live) < 2 or len(set(live)) == 1:
            continue
        others = [other for j, other in enumerate(group) if j != i and other is not None]
        assert LeaveOneOut().of(group)[i] == pytest.approx(score - sum(others) / len(others), abs=1e-9)
        assert GroupMean().of(group)[i] == pytest.approx(score - statistics.fmean(live), abs=1e-9)
        slow = (score - statistics.fmean(live)) / (statistics.stdev(live) + 1e-6)
        assert GroupStd().of(group)[i] == pytest.approx(slow, rel=1e-6, abs=1e-9)


@pytest.mark.proves("advantage.batch_std", "float64")
@given(steps)
def test_batch_std_equals_its_slow_reference(rows):
    live = [score for row in rows for score in row if score is not None]
    found = estimated(BatchStd(eps=0.5), rows)
    spread = statistics.stdev(live) if len(live) > 1 else 0.0
    for row, own in zip(rows, found, strict=True):
        of_group = [score for score in row if score is not None]
        for score, advantage in zip(row, own, strict=True):
            slow = 0.0 if score is None or len(of_group) < 2 else (score - statistics.fmean(of_group)) / (spread + 0.5)
            assert advantage == pytest.approx(slow, abs=1e-9)


@pytest.mark.proves("advantage.none", "float64")
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=8))
def test_no_baseline_keeps_every_bit(group):
    assert all(math.copysign(1, a) == math.copysign(1, b) and a == b for a, b in zip(NoBaseline().of(group), group, strict=True))


@pytest.mark.parametrize(("piece", "eps"), [(GroupStd, -1e-9), (BatchStd, 0.0)])
def test_a_wrong_eps_is_refused(piece, eps):
    with pytest.raises(ValueError, match="eps must be"):
        piece(eps=eps)
