"""Answers that run into the length limit: the soft punishment and the filter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.overlong import OverlongFilter, OverlongPunishment, soft_punishment


@pytest.mark.proves("reward.overlong", "vector", "table")
@pytest.mark.parametrize(("length", "expected"), [(16384, 0.0), (18432, -0.5), (20480, -1.0), (20481, -1.0), (1, 0.0)])
def test_soft_punishment_golden_vector(length, expected):
    # L_max 20480, cache 4096: starts at 16384, falls by 1/4096 per token
    assert soft_punishment(length, max_length=20480, cache=4096) == pytest.approx(expected)


@pytest.mark.proves("reward.overlong", "table")
def test_the_piece_scales_with_the_steps_limit(rollout_of, sample_of, context):
    # limit 100, a fifth of it is the cache: starts at 80; 90 tokens: half of 0.5
    piece = OverlongPunishment()
    found = [piece.score(context(max_new_tokens=100), sample_of(), rollout_of(tokens=n)) for n in (80, 90, 100)]
    assert found == pytest.approx([0.0, -0.25, -0.5])
    assert soft_punishment(20480, max_length=20480, cache=0) == 0.0


@pytest.mark.proves("reward.overlong", "law")
@given(st.integers(0, 300), st.integers(1, 200), st.integers(1, 200), st.floats(0, 2))
def test_punishment_only_grows_with_length_and_is_bounded(length, limit, cache, factor):
    now = soft_punishment(length, max_length=limit, cache=cache, factor=factor)
    assert -factor <= soft_punishment(length + 1, max_length=limit, cache=cache, factor=factor) <= now <= 0.0


@pytest.mark.proves("resample.overlong_filter", "table")
def test_truncated_rollouts_leave_and_their_advantages_do_not_change(group_of, context):
    group = group_of([1, 0, 1])
    group.rollouts[1].finished = False
    group.rollouts[0].advantage = 0.7
    (kept,) = OverlongFilter().apply(context(), [group])
    assert [r.index for r in kept.rollouts] == [0, 2] and kept.rollouts[0].advantage == 0.7
    assert len(group.rollouts) == 3


@pytest.mark.proves("resample.overlong_filter", "law")
def test_filtering_twice_or_nothing_changes_nothing(group_of, context):
    group = group_of([1, 0, 1, 0])
    group.rollouts[2].finished = False
    once = OverlongFilter().apply(context(), [group])
    assert OverlongFilter().apply(context(), once) == once
    assert OverlongFilter().apply(context(), []) == []


@pytest.mark.parametrize("settings", [{"cache_share": 0.0}, {"cache_share": 1.1}, {"factor": -1.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="cache_share must be above 0"):
        OverlongPunishment(**settings)
