"""PAD: both forms' weights, thresholds and draws."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import GroupStd
from factory.stages.rl.pieces.pad import PadCode, PadPaper, power_weights, softmax_weights
from factory.stages.rl.rollouts import Group, Rollout

SET = [0.01, 0.1, 0.5, 0.9, 1.2]


def a_context(step=0, total=10):
    return StepContext(step, total, 0, 64, 8)


def a_group(advantages, tokens=2):
    return Group(None, [
        Rollout(0, i, [7] * tokens, [-1.0] * tokens, True, 0, advantage=a or 0.0, reward=Reward(0.0, a is None, False, {}, {}, {}))
        for i, a in enumerate(advantages)
    ])  # fmt: skip


def drawn(piece, advantages, step=0):
    return [r.advantage for group in piece.apply(a_context(step), [a_group(advantages)]) for r in group.rollouts]


@pytest.mark.proves("resample.pad_code", "vector")
def test_power_weights():
    found = power_weights(SET, low=0.03, high=0.97, power=1.5)
    assert found == pytest.approx([0.0, 0.025523, 0.285356, 0.689121, 0.0], abs=1e-6)  # B15


@pytest.mark.proves("resample.pad_paper", "vector")
@pytest.mark.parametrize(("tau", "kept"), [(1.0, [0.211983, 0.316241, 0.471776]), (0.3, [0.052122, 0.197735, 0.750142])])
def test_softmax_weights(tau, kept):
    assert softmax_weights(SET, low=0.03, high=0.97, tau=tau) == pytest.approx([0.0, *kept, 0.0], abs=1e-6)  # B15


def test_the_thresholds_belong_to_the_papers_range_and_not_to_the_codes():
    assert softmax_weights([0.25, 0.5], low=0.25, high=0.5, tau=1.0)[0] > 0
    assert power_weights([0.25, 0.5, 0.4], low=0.25, high=0.5, power=1.0) == [0.0, 0.0, 1.0]


def test_code_draws_one_and_a_half_batches_with_replacement():
    found = drawn(PadCode(), [0.01, -0.5, 0.9, 1.2, None])
    # Four live rollouts: int(1.5 * 4) = 6 draws from the two kept.
    assert len(found) == 6 and set(found) <= {-0.5, 0.9}
    members = PadCode().apply(a_context(), [a_group([0.5, 0.0])])[0].rollouts
    assert len({id(r) for r in members}) == 3, "copies, so that one rollout's later changes are its own"


def test_paper_draws_at_most_what_was_kept_without_replacement():
    piece = PadPaper(low=0.03, high=0.97, share=0.5)
    assert sorted(drawn(piece, [0.01, -0.5, 0.9, 1.2])) in ([-0.5, 0.9],)
    assert len(drawn(PadPaper(low=0.03, high=0.97, share=0.25), [0.1, 0.5, 0.9, 0.2])) == 1


def test_with_nothing_kept_the_whole_batch_trains():
    groups = [a_group([0.0, 1.5])]
    assert PadCode().apply(a_context(), groups) == groups
    assert PadPaper(low=0.03, high=0.97, share=1.0).apply(a_context(), groups) == groups


def test_the_temperature_falls_in_a_line():
    piece = PadPaper(low=0.0, high=1.0, share=1.0)
    # 1.0 - 0.7 * 5/10
    assert [piece.tau(a_context(step)) for step in (0, 5)] == pytest.approx([1.0, 0.65])


def test_draws_follow_the_weights():
    # P(0.9) of {0.1, 0.5, 0.9} = 0.689121 (B15): of 6 x 200 draws 827, within 4 deviations
    found = [a for step in range(200) for a in drawn(PadCode(share=2.0), [0.1, 0.5, 0.9], step)]
    assert abs(found.count(0.9) - 0.689121 * 1200) < 4 * math.sqrt(1200 * 0.689121 * 0.310879)


def test_summed_magnitudes_leave_the_range_of_the_thresholds():
    # two tokens: 0.5 * 2 = 1.0 > 0.97, so only 0.4 is kept
    assert set(drawn(PadCode(summed=True), [0.5, 0.4])) == {0.4}
    assert set(drawn(PadCode(share=4.0), [0.5, 0.4])) == {0.5, 0.4}


def test_divided_advantages_lose_their_lone_success(group_of):
    # B2.5: (1 - 1/8) / sqrt(1/8) = 2.475 for one right of eight, -0.354 for the others
    group = group_of([1.0] + [0.0] * 7)
    GroupStd(eps=0.0).estimate(None, [group])
    assert group.rollouts[0].advantage == pytest.approx(2.474874, abs=1e-6)
    found = PadCode().apply(a_context(), [group])
    assert all(r.value == 0.0 for g in found for r in g.rollouts)


magnitudes = st.lists(st.floats(0, 2), min_size=1, max_size=8)


@pytest.mark.proves("resample.pad_code", "law")
@pytest.mark.proves("resample.pad_paper", "law")
@given(values=magnitudes, order=st.randoms(use_true_random=False), tau=st.floats(0.1, 2))
def test_weights_are_a_distribution_over_what_is_kept_in_any_order(values, order, tau):
    permutation = list(range(len(values)))
    order.shuffle(permutation)
    for weigh in (
        lambda v: softmax_weights(v, low=0.2, high=1.0, tau=tau), lambda v: power_weights(v, low=0.2, high=1.0, power=1.5)
    ):  # fmt: skip
        weights = weigh(values)
        assert sum(weights) == pytest.approx(1.0) or not any(weights)
        assert all(w == 0 for w, v in zip(weights, values, strict=True) if not 0.2 <= v <= 1.0)
        assert weigh([values[i] for i in permutation]) == pytest.approx([weights[i] for i in permutation])
        # A larger |A| is never drawn less often.
        kept = sorted((v, w) for v, w in zip(values, weights, strict=True) if w)
        assert all(a[1] <= b[1] + 1e-12 for a, b in itertools.pairwise(kept))


@pytest.mark.parametrize("settings", [{"low": 1.0}, {"share": 0.0}, {"power": -1.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        PadCode(**settings)
    with pytest.raises(ValueError):
        PadPaper(low=0.1, high=0.9, share=1.0, tau_end=0.0)


@pytest.mark.proves("resample.pad_code", "run")
@pytest.mark.proves("resample.pad_paper", "run")
def test_a_run_with_each_form(run_stage):
    _, rows, _ = run_stage("code", preset="revisual_pad", num_steps=1)
    assert 0 < rows[0]["pad/kept_share"] <= 1 and rows[0]["grad_norm"] > 0
    paper = {"resample": {"pad_code": None, "pad_paper": {"low": 0.03, "high": 0.97, "share": 0.5}}}
    _, rows, _ = run_stage("paper", preset="revisual_pad", num_steps=1, pieces=paper)
    assert 0 < rows[0]["pad/kept_share"] <= 1 and rows[0]["grad_norm"] > 0
