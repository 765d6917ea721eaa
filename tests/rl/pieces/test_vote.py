"""MM-UPT: the majority's answer as the label."""

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.rl.pieces.vote import MajorityVote, leaders

answers = st.lists(st.sampled_from(["4", "5", "6", None]), min_size=1, max_size=9)


def said(*given_answers, **fields):
    texts = ["<think>no" if a is None else f"<answer>{a}</answer>" for a in given_answers]
    return [{"text": text, "exact": 0.0} | fields for text in texts]


def voted(rows, mix=None, piece=None):
    made = scored.group(rows, mix)
    (piece or MajorityVote()).apply(scored.context(mix=mix), made)
    return made


@pytest.mark.proves("group_reward.vote", "vector")
def test_by_the_guides_vector():
    # B15, MM-UPT: answers 4, 4, 5, none, 4, 5, 6, 4.
    made = voted(said("4", "4", "5", None, "4", "5", "6", "4"))
    assert made.values() == [1, 1, 0, 0, 1, 0, 0, 1]
    assert [r.right for r in made.rollouts] == [True, True, False, False, True, False, False, True]
    assert made.pass_rate() == 0.5, "what samplers and filters see is the vote"


@pytest.mark.proves("group_reward.vote", "table")
def test_no_answer_is_a_class_of_its_own_that_rewards_nobody():
    assert voted(said(None, None, "4")).values() == [0, 0, 0]
    # As many without an answer as with one: the answer leads.
    assert voted(said(None, "4")).values() == [0, 1]
    assert leaders(["4", "5", None]) == ["4", "5"] and leaders([]) == []


@pytest.mark.proves("group_reward.vote", "table")
def test_equal_answers_are_equal_however_they_are_written():
    rows = said("4", "4.0", "4.", "5", "5")
    assert voted(rows).values() == [1, 1, 1, 0, 0]


@pytest.mark.proves("group_reward.vote", "table")
def test_the_sources_vote_hears_only_what_is_boxed():
    texts = [r"\boxed{4}", r"\boxed{5}", r"\boxed{5}", "The answer is 4.", "4", "answer: 4"]
    rows = [{"text": text, "exact": 0.0} for text in texts]
    # Leniently 4 is said four times against two; boxed, twice 5 against one 4 and three without an answer.
    assert voted(rows, piece=MajorityVote(shape="boxed")).values() == [1, 0, 0, 1, 1, 1]
    assert voted(rows, piece=MajorityVote(shape="boxed", marked_only=True)).values() == [0] * 6
    assert voted(rows[:4], piece=MajorityVote(shape="boxed", marked_only=True)).values() == [0, 1, 1, 0]


@pytest.mark.proves("group_reward.vote", "law")
@given(answers, st.randoms(use_true_random=False), st.integers(0, 9))
def test_the_vote_is_one_answer_as_frequent_as_any_whatever_the_order(given_answers, random, at):
    values = voted(said(*given_answers)).values()
    winners = {a for a, v in zip(given_answers, values, strict=True) if v}
    assert len(winners) <= 1 and None not in winners
    if winners:
        assert sum(values) == max(given_answers.count(a) for a in given_answers)
        assert sum(values) == given_answers.count(winners.pop())
    else:
        assert given_answers.count(None) > max((given_answers.count(a) for a in given_answers if a), default=0)
    order = list(range(len(given_answers)))
    random.shuffle(order)
    assert voted(said(*(given_answers[i] for i in order))).values() == [values[i] for i in order]
    # A masked rollout has no voice and stays masked, also when it would have made another answer win.
    rows = said(*given_answers)
    rows[at:at] = said("6", exact=None) * 9
    values_with = voted(rows).values()
    assert [v for v in values_with if v is not None] == values and values_with.count(None) == 9


def test_ties_are_drawn_at_random_but_always_the_same_way():
    made = scored.group(said("4", "5"))
    winners = set()
    for seed in range(20):
        MajorityVote().apply(scored.context(seed=seed), made)
        first = made.values()
        MajorityVote().apply(scored.context(seed=seed), made)
        assert made.values() == first and sorted(first) == [0, 1]
        winners.add(first[0])
    assert winners == {0, 1}


def test_other_tasks_keep_their_labels_and_the_plan_says_what_does_not_count():
    mix = scored.mixture(tasks=("t", "u"))
    assert voted(said("4"), mix, MajorityVote(tasks=["u"])).values() == [0.0]
    assert "weights and gates of u are recorded" in MajorityVote(tasks=["u"]).check_mixture(mix)[0]
    with pytest.raises(ConfigError, match="no task 'w'"):
        MajorityVote(tasks=["w"]).check_mixture(mix)


def test_a_boxed_answer_is_read_with_its_shape():
    rows = [{"text": "so \\boxed{4}"}, {"text": "\\boxed{4.0}"}, {"text": "\\boxed{5}"}]
    assert voted(rows, piece=MajorityVote(shape="boxed")).values() == [1, 1, 0]
    with pytest.raises(ValueError, match="unknown output shape"):
        MajorityVote(shape="box")
