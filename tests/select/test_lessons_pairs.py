"""Lessons and pairs from the rollouts of one prompt: tables by hand, and laws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Lesson, Message, Sample
from factory.stages.select.config import LessonRule, PairRule
from factory.stages.select.lessons import own_lessons, pack_lessons, right_traces
from factory.stages.select.pairs import own_pairs
from factory.stages.select.rollouts import Scored


def rollout(index, value, tokens, *, text=None, masked=False, blind=False, finished=True):
    return Scored("s", index, blind, text or f"t{index}", 0.0 if masked else value, masked, tokens, finished)


GROUP = [
    rollout(0, 1.0, 12),
    rollout(1, 0.0, 30),
    rollout(2, 1.0, 8),
    rollout(3, 0.0, 4),
    rollout(4, 1.0, 20),
    rollout(5, 1.0, 3, masked=True),  # nobody knows whether it is right
    rollout(6, 1.0, 2, blind=True),  # written without the image
    rollout(7, 1.0, 5, finished=False),  # right, but cut off
    rollout(8, 1.0, 9, text="t2"),  # the same words again
    rollout(9, 0.5, 31, finished=False),  # half right is wrong
]
texts = st.lists(
    st.builds(
        rollout, st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 30), masked=st.booleans(),
        blind=st.booleans(), finished=st.booleans(),
    ),
    max_size=10, unique_by=lambda r: r.index,
)  # fmt: skip


def names(found):
    return [trace.text for trace in found]


def lessons(rule, group=GROUP, seed=0):
    return own_lessons(group, rule, right_from=1.0, seed=seed)


def pairs(rule, group=GROUP, **settings):
    return [(winner.text, loser.text) for winner, loser in own_pairs(group, rule, right_from=1.0, **settings)]


def test_lessons_by_hand():
    assert names(lessons(LessonRule.shortest_correct)) == ["t2"]
    assert names(lessons(LessonRule.all_correct)) == ["t0", "t2", "t4"]
    assert lessons(LessonRule.none) == [] and lessons(LessonRule.shortest_correct, GROUP[1:2]) == []
    assert names(own_lessons(GROUP, LessonRule.shortest_correct, right_from=0.5, seed=0)) == ["t2"]


def test_openvlthinker_keeps_the_shortest_right_one_of_four():
    four = [rollout(0, 1.0, 40), rollout(1, 0.0, 5), rollout(2, 1.0, 25), rollout(3, 1.0, 25)]
    # equal lengths: the earlier one
    assert names(lessons(LessonRule.shortest_correct, four)) == ["t2"]


def test_a_random_lesson_is_drawn_from_the_seed_and_every_right_one_can_be():
    drawn = [names(lessons(LessonRule.random_correct, seed=seed)) for seed in range(60)]
    assert drawn == [names(lessons(LessonRule.random_correct, seed=seed)) for seed in range(60)]
    assert {name for (name,) in drawn} == {"t0", "t2", "t4"}


def test_right_over_wrong_by_hand():
    found = pairs(PairRule.right_wrong)
    assert sorted(found) == sorted((right, wrong) for right in ("t0", "t2", "t4") for wrong in ("t1", "t3", "t9"))


def test_long2short_by_hand():
    # The winner t2 has 8 tokens. Wrong and longer: t1 (30), t9 (31); t3 (4) is wrong but shorter. Right and at least 1.5 x 8 = 12
    # tokens: t0 (12, just) and t4 (20).
    assert pairs(PairRule.long2short) == [("t2", "t1"), ("t2", "t9"), ("t2", "t0"), ("t2", "t4")]
    assert pairs(PairRule.long2short, longer=1.6) == [("t2", "t1"), ("t2", "t9"), ("t2", "t4")]
    assert pairs(PairRule.none) == [] and pairs(PairRule.long2short, GROUP[1:2]) == []


def test_fewer_pairs_are_drawn_from_the_seed_in_their_order():
    everything = pairs(PairRule.long2short)
    drawn = [pairs(PairRule.long2short, max_pairs=2, seed=seed) for seed in range(40)]
    assert drawn == [pairs(PairRule.long2short, max_pairs=2, seed=seed) for seed in range(40)]
    assert all(len(two) == 2 and two == [pair for pair in everything if pair in two] for two in drawn)
    assert {pair for two in drawn for pair in two} == set(everything)


@given(texts, st.sampled_from(list(LessonRule)), st.integers(0, 5), st.randoms(use_true_random=False))
def test_lessons_are_right_finished_and_free_of_the_order(group, rule, seed, rng):
    found = lessons(rule, group, seed)
    assert lessons(rule, rng.sample(group, len(group)), seed) == found
    for trace in found:
        assert trace in group and trace.value == 1.0 and trace.finished and not trace.masked and not trace.blind
    right = right_traces(group, 1.0)
    expected = {LessonRule.none: 0, LessonRule.all_correct: len(right)}.get(rule, min(1, len(right)))
    assert len(found) == expected
    if rule is LessonRule.shortest_correct and found:
        assert found[0].tokens == min(trace.tokens for trace in right)


@given(texts, st.sampled_from([PairRule.right_wrong, PairRule.long2short]), st.integers(0, 3), st.randoms(use_true_random=False))
def test_pairs_prefer_the_right_and_free_of_the_order(group, rule, max_pairs, rng):
    settings = {"right_from": 1.0, "max_pairs": max_pairs, "seed": 3}
    found = own_pairs(group, rule, **settings)
    assert own_pairs(rng.sample(group, len(group)), rule, **settings) == found
    assert len(set(found)) == len(found) and (not max_pairs or len(found) <= max_pairs)
    for winner, loser in found:
        assert winner.value == 1.0 and winner.finished and winner.text != loser.text
        assert not any(trace.masked or trace.blind for trace in (winner, loser))
        if rule is PairRule.right_wrong:
            assert loser.value < 1.0
        else:
            assert winner.tokens == min(trace.tokens for trace in right_traces(group, 1.0))
            assert loser.tokens > winner.tokens if loser.value < 1.0 else loser.tokens >= 1.5 * winner.tokens


def test_the_packs_lessons_are_read_no_further_than_needed():
    read = []

    def stream():
        for index in range(100):
            read.append(index)
            yield Lesson(Sample(f"s{index % 10}", "t", (Message("user", "?"),), "x"), f"r{index}")

    found = pack_lessons(["s3", "s1"], stream())
    assert {name: lesson.response for name, lesson in found.items()} == {"s1": "r1", "s3": "r3"}
    assert read == [0, 1, 2, 3]
    assert set(pack_lessons(["s3", "nowhere"], stream())) == {"s3"}
    read.clear()
    assert pack_lessons([], stream()) == {} and read == []
