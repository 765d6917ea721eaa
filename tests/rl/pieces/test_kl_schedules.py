"""The KL coefficient over a run."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.basics import ConstantKl
from factory.stages.rl.pieces.kl_schedules import AdaptiveKl, CosineKl, GrpoD
from factory.stages.rl.rollouts import Group, Rollout


def at(step, total=100, kl=None):
    ctx = StepContext(step, total, 0, 64, 8)
    ctx.measured_kl = kl
    return ctx


@pytest.mark.proves("kl_schedule.grpo_d", "vector")
def test_grpo_d_golden_vector():
    found = [GrpoD(min=0.04, max=0.1).coef(at(s), 9.9) for s in (0, 15, 30, 65, 100)]
    assert found == pytest.approx([0.07, 0.055, 0.04, 0.07, 0.1])


@pytest.mark.proves("kl_schedule.grpo_d", "law")
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 0.95), st.integers(0, 100))
def test_grpo_d_stays_in_its_range_falls_then_rises(one, other, turn, step):
    low, high = sorted((one, other))
    piece = GrpoD(min=low, max=high, turn=turn)
    now, then = piece.coef(at(step), 0.0), piece.coef(at(step + 1), 0.0)
    assert low - 1e-12 <= now <= high + 1e-12
    if (step + 1) / 100 <= turn:
        assert then <= now + 1e-12
    elif step / 100 >= turn:
        assert then >= now - 1e-12


@pytest.mark.proves("kl_schedule.cosine", "vector")
def test_cosine_golden_vector():
    assert [CosineKl().coef(at(s), 0.04) for s in (0, 50, 100)] == pytest.approx([0.04, 0.02, 0.0])


@pytest.mark.proves("kl_schedule.cosine", "law")
@given(st.floats(0, 1), st.integers(0, 99))
def test_cosine_only_falls(base, step):
    assert 0.0 <= CosineKl().coef(at(step + 1), base) <= CosineKl().coef(at(step), base) + 1e-15 <= base + 1e-12


@pytest.mark.proves("kl_schedule.constant", "table", "law")
@given(st.floats(0, 1), st.integers(0, 99))
def test_constant_is_constant(base, step):
    assert ConstantKl().coef(at(step), base) == base


@pytest.mark.proves("kl_schedule.adaptive", "table")
def test_the_controller_by_hand(group_of):
    # target .1, horizon 80; a step of 8 rollouts. KL .11: error .1, factor 1 + .1*8/80 = 1.01.
    # then KL .5: error 4 held at .2, factor 1.02; then KL .05: error -.5 held at -.2, factor .98
    piece, groups = AdaptiveKl(target=0.1, horizon=80.0), [group_of([1, 0, 0, 0]), group_of([1, 0, 0, 0])]
    found = []
    for kl in (0.11, 0.5, 0.05, None):
        piece.observe(at(0, kl=kl), groups)
        found.append(piece.coef(at(0), 0.04))
    assert found == pytest.approx([0.04 * 1.01, 0.04 * 1.01 * 1.02, 0.04 * 1.01 * 1.02 * 0.98, 0.04 * 1.01 * 1.02 * 0.98])


@pytest.mark.proves("kl_schedule.adaptive", "law", "resume")
@given(st.lists(st.floats(-1, 5), max_size=20), st.integers(0, 20), st.floats(1, 100))
def test_the_controller_moves_towards_the_target_and_resumes_exactly(kls, cut, horizon):
    sample = Sample(id="s", task="t", messages=(Message("user", "q"),), reference="a")
    groups = [Group(sample, [Rollout(0, i, [7], [-1.0], True, 0) for i in range(3)])]
    whole, other = AdaptiveKl(target=0.5, horizon=horizon), AdaptiveKl(target=0.5, horizon=horizon)
    for number, kl in enumerate(kls):
        if number == cut:
            restored = AdaptiveKl(target=0.5, horizon=horizon)
            restored.load_state_dict(json.loads(json.dumps(other.state_dict())))
            other = restored
        before = whole.coef(at(0), 0.04)
        for piece in (whole, other):
            piece.observe(at(0, kl=kl), groups)
        after = whole.coef(at(0), 0.04)
        assert after >= 0.0
        assert (after >= before) if kl >= 0.5 else (after <= before)
        assert abs(after - before) <= before * 0.2 * 3 / horizon + 1e-12
        assert other.coef(at(0), 0.04) == after


@pytest.mark.parametrize(
    "make",
    [
        lambda: GrpoD(min=0.2, max=0.1), lambda: GrpoD(min=0.0, max=0.1, turn=1.0),
        lambda: AdaptiveKl(target=0.0, horizon=1.0), lambda: AdaptiveKl(target=1.0, horizon=0.0),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"needed|must be above 0"):
        make()
