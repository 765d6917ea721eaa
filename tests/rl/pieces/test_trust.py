"""Trust-GRPO: the thinking reward, its trust factor and its fading; paper and code apart."""

import math

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError, RewardError
from factory.stages.rl.pieces.trust import Trust, trust_weight

JUDGED = {"exact": 1.0, "judge": 0.0}
MIX = scored.mixture(JUDGED)

scores = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
rows = st.lists(st.fixed_dictionaries({"exact": scores, "judge": scores}), min_size=1, max_size=8)


def terms(piece, step, group):
    return scored.terms(piece, scored.context(step, 1500, MIX), group, MIX)


@pytest.mark.proves("group_reward.trust", "vector")
def test_by_the_guides_vector():
    # B15: mu_c 0.5, mu_w 0.7, so gamma = exp(-0.2) = 0.818731; R = 1 + gamma 0.3 exp(-750/1500) 0.8 = 1.119180.
    assert trust_weight([1.0, 0.0], [0.5, 0.7], 0.5, "paper") == pytest.approx(0.818731, abs=1e-6)
    group = [{"judge": 0.8}, {"judge": 0.2}, {"exact": 0.0, "judge": 0.7}]
    assert 1.0 + terms(Trust(part="judge"), 750, group)[0] == pytest.approx(1.119180, abs=1e-6)


@pytest.mark.proves("group_reward.trust", "table")
def test_paper_and_code_differ_in_groups_of_equals_in_who_is_judged_and_in_the_horizon():
    paper, code = Trust(part="judge", alpha=1.0), Trust(part="judge", alpha=1.0, variant="code")
    # All right with unlike outcomes: the paper pays nothing, the code trusts the judge.
    unlike = [{"exact": 1.0, "judge": 0.4}, {"exact": 0.5, "judge": 0.6}]
    assert terms(paper, 0, unlike) == [0.0, 0.0] and terms(code, 0, unlike) == pytest.approx([0.4, 0.6])
    # Equal outcomes: nothing in either.
    equal = [{"exact": 1.0, "judge": 0.4}, {"exact": 1.0, "judge": 0.6}]
    assert terms(paper, 0, equal) == terms(code, 0, equal) == [0.0, 0.0]
    # An outcome below 0.2 is not judged by the code: its 0.9 counts as 0, so the right one (0.4) is trusted in full.
    mixed = [{"exact": 1.0, "judge": 0.4}, {"exact": 0.0, "judge": 0.9}]
    assert terms(code, 0, mixed) == pytest.approx([0.4, 0.0])
    assert terms(paper, 0, mixed) == pytest.approx([0.4 * math.exp(-0.5), 0.9 * math.exp(-0.5)])
    # T: all 1500 steps in the paper, 500 in the code, or as set.
    assert (paper.fading(scored.context(500, 1500)), code.fading(scored.context(500, 1500))) == pytest.approx(
        (math.exp(-1 / 3), math.exp(-1))
    )
    assert Trust(part="judge", horizon=100).fading(scored.context(100, 1500)) == pytest.approx(0.3 * math.exp(-1))


@pytest.mark.proves("group_reward.trust", "law")
@given(rows, st.integers(0, 2**20), st.sampled_from(["paper", "code"]), st.integers(0, 1499))
def test_the_term_is_bounded_and_fades(group, seed, variant, step):
    piece = Trust(part="judge", variant=variant)
    found = scored.hold_group_laws(piece, scored.context(step, 1500, MIX), group, seed, MIX)
    assert all(0.0 <= term <= 0.3 * row["judge"] + 1e-12 for term, row in zip(found, group, strict=True))
    later = terms(piece, step + 1, group)
    assert all(b < a or a == b == 0.0 for a, b in zip(found, later, strict=True))
    if len({row["exact"] for row in group}) == 1:
        assert found == [0.0] * len(group)


def test_a_failed_judge_masks_its_rollout_and_is_no_score_of_zero():
    made = scored.group([{"judge": None}, {"judge": 0.5}, {"exact": 0.0, "judge": 0.5}], MIX)
    assert not made.rollouts[0].is_masked, "the judge has no weight"
    Trust(part="judge").apply(scored.context(0, 100, MIX), made)
    assert made.rollouts[0].is_masked and made.rollouts[0].shaping == {}
    assert [r.shaping["group_reward.trust"] for r in made.rollouts[1:]] == pytest.approx([0.15, 0.15])


def test_parts_of_a_verdict_and_completions_that_cannot_be_read():
    group = [{"judge": {"thinking": 0.5}}, {"exact": 0.0, "judge": "unparsable"}]
    assert terms(Trust(part="judge/thinking"), 0, group) == pytest.approx([0.15, 0.0])
    with pytest.raises(RewardError, match=r"judge/thinkin.*Did you mean 'judge/thinking'"):
        terms(Trust(part="judge/thinkin"), 0, group[:1])


def test_tasks_that_are_not_named_are_left_alone():
    made = scored.group([{"judge": 0.5}, {"exact": 0.0}], MIX)
    Trust(part="judge", tasks=["other"]).apply(scored.context(0, 100, MIX), made)
    assert all(rollout.shaping == {} for rollout in made.rollouts)


def test_the_plan_checks_the_part():
    assert list(Trust(part="judge").check_mixture(MIX)) == []
    assert "also counts" in Trust(part="exact").check_mixture(MIX)[0]
    with pytest.raises(ConfigError, match=r"has no verifier 'judgy'\. Did you mean 'judge'.*weight 0"):
        Trust(part="judgy").check_mixture(MIX)
    with pytest.raises(ConfigError, match="no task 'tt'"):
        Trust(part="judge", tasks=["tt"]).check_mixture(MIX)


@pytest.mark.parametrize("settings", [{"variant": "both"}, {"alpha": 0.0}, {"horizon": -1}])
def test_values_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=r"(not known|must be)"):
        Trust(part="judge", **settings)
