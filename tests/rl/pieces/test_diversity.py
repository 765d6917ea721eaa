"""AlphaDrive's diversity factor."""

import dataclasses

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.rl.pieces.diversity import Diversity, diversity_factors

rows = st.lists(
    st.fixed_dictionaries({"exact": st.floats(0, 1), "text": st.sampled_from(["<answer>go</answer>", "<answer>stop</answer>", "none"])}),
    min_size=1, max_size=9,
)  # fmt: skip


def saying(word, exact):
    return {"text": f"<answer>{word}</answer>", "exact": exact}


@pytest.mark.proves("group_reward.diversity", "vector")
def test_by_the_guides_vector():
    # B15, AlphaDrive: F1 0.8, W 1; 2 of 8 the same answer: 0.8 (1 - 0.2) = 0.64; 1 of 8: 0.8 (1 - 0.125) = 0.70.
    group = [saying(word, 0.8) for word in ("a", "a", "b", "c", "d", "e", "f", "g")]
    made = scored.group(group)
    Diversity().apply(scored.context(), made)
    assert made.scores() == pytest.approx([0.64, 0.64] + [0.70] * 6)


@pytest.mark.proves("group_reward.diversity", "table")
def test_only_the_named_part_is_discounted():
    mix = scored.mixture({"exact": 3.0, "format": 1.0})
    group = [saying("a", 0.8) | {"format": 1.0}] * 5
    # Share of the F1 in the value: 3/4 x 0.8 = 0.6; all five the same, so 0.2 of it goes: -0.12. The format keeps its 0.25.
    made = scored.group(group, mix)
    Diversity(part="exact").apply(scored.context(mix=mix), made)
    assert made.scores() == pytest.approx([0.85 - 0.12] * 5)


def test_a_closed_gate_leaves_nothing_to_discount():
    mix = scored.mixture({"exact": 1.0}, gate="format")
    assert scored.terms(Diversity(part="exact"), scored.context(mix=mix), [saying("a", 1.0) | {"format": 0.0}], mix) == [0.0]


@pytest.mark.proves("group_reward.diversity", "law")
@given(rows, st.integers(0, 2**20))
def test_at_most_a_fifth_is_taken_and_never_from_nothing(group, seed):
    found = scored.hold_group_laws(Diversity(), scored.context(), group, seed)
    for term, row in zip(found, group, strict=True):
        assert -0.2 * row["exact"] - 1e-12 <= term <= -row["exact"] * min(0.2, 1 / len(group)) + 1e-12


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.floats(0.01, 1))
def test_factors_by_a_slow_count(answers, cap):
    expected = [1 - min(cap, sum(a == b for b in answers) / len(answers)) for a in answers]
    assert diversity_factors(answers, cap) == expected


def test_the_plan_checks_the_part():
    with pytest.raises(ConfigError, match="no verifier 'f1'"):
        Diversity(part="f1").check_mixture(scored.mixture())
    with pytest.raises(ValueError, match="cap"):
        Diversity(cap=0.0)


def test_other_tasks_keep_their_reward_and_need_no_part():
    mix = scored.mixture({"exact": 1.0})
    made = scored.group([saying("a", 1.0)] * 4, mix)
    task = made.sample.task
    Diversity(tasks=[task]).apply(scored.context(mix=mix), made)
    assert made.scores() == pytest.approx([0.8] * 4)
    other = scored.group([saying("a", 1.0)] * 4, mix)
    other.sample = dataclasses.replace(other.sample, task="other")
    Diversity(tasks=[task]).apply(scored.context(mix=mix), other)
    assert other.scores() == [1.0] * 4
    with pytest.raises(ConfigError, match="no task 'nowhere'"):
        Diversity(tasks=["nowhere"]).check_mixture(mix)
