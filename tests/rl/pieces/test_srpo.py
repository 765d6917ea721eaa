"""SRPO: what two passes are worth, and how long they should be."""

import math

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.srpo import ACCURACY, SrpoAccuracy, SrpoLength, first_pass_end, two_pass_length, two_passes

PIECES = ["<think>", "</think>", "<answer>", "</answer>", "word ", "right", "wrong", "broken", "<reflection>", "</reflection>"]


def passes(first, second):
    return f"<think>a</think><answer>{first}</answer><reflection>r</reflection><think>b</think><answer>{second}</answer>"


@pytest.mark.proves("reward.srpo_length", "vector")
def test_length_by_the_guides_vector():
    # B15: n1 200, so Tg 400 and Tmax 500; lengths 400, 450, 500.
    assert [two_pass_length(n, 200) for n in (400, 450, 500)] == pytest.approx([0.1, 0.077880, 0.036788], abs=1e-6)


@pytest.mark.proves("reward.srpo_length", "table")
def test_length_counts_the_tokens_of_the_first_pass():
    services = scored.Vocabulary(PIECES)
    # First pass: 6 tokens. 12 in all is 2 n1, the best length: 0.1. 15 is 2.5 n1: 0.1 exp(-1).
    first = services.encode("<think>", "word ", "</think>", "<answer>", "right", "</answer>")
    ctx = scored.context(services=services)
    for extra, expected in ((1, 0.1), (4, 0.1 * math.exp(-1))):
        ids = first + services.encode(*["word "] * extra, "<think>", "</think>", "<answer>", "right", "</answer>")
        made = scored.rollout(text=services.decode(ids))
        made.ids = ids
        assert SrpoLength().score(ctx, None, made) == pytest.approx(expected)
    made.text, made.ids = services.decode(first), first
    assert SrpoLength().score(ctx, None, made) == 0.0, "one pass only"


@pytest.mark.proves("reward.srpo_length", "law")
@given(st.integers(1, 500), st.integers(1, 3000))
def test_length_is_best_at_twice_the_first_pass_and_symmetric_around_it(first, away):
    best, shorter, longer = (two_pass_length(2 * first + d, first) for d in (0, -away, away))
    assert best == 0.1 and shorter == longer and 0.0 <= longer < best


@pytest.mark.proves("hook.srpo_accuracy", "table")
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    # 0.5 x 0.75, 1, -0.25, 0: the paper's intent, not the released comparison chains.
    [("right", "right", 0.375), ("wrong", "right", 0.5), ("right", "wrong", -0.125), ("wrong", "wrong", 0.0)],
)  # fmt: skip
def test_accuracy_pays_for_mending_a_wrong_answer(first, second, expected):
    ctx, group = scored.context(services=scored.Vocabulary(PIECES)), scored.group([{"text": passes(first, second), "exact": 0.0}])
    SrpoAccuracy().apply(ctx, [group])
    assert group.rollouts[0].value == expected and group.rollouts[0].right is (second == "right")


@pytest.mark.proves("hook.srpo_accuracy", "table")
def test_one_pass_earns_nothing_and_an_answer_that_cannot_be_verified_masks():
    ctx = scored.context(services=scored.Vocabulary(PIECES, failing=("wrong",)))
    group = scored.group([{"text": "<think>a</think><answer>right</answer>"}, {"text": passes("wrong", "right")}])
    SrpoAccuracy().apply(ctx, [group])
    assert [r.value for r in group.rollouts] == [0.0, None] and not group.rollouts[0].right


@pytest.mark.proves("hook.srpo_accuracy", "law")
@given(st.lists(st.tuples(st.sampled_from(["right", "wrong"]), st.sampled_from(["right", "wrong"])), min_size=1, max_size=6))
def test_accuracy_is_the_table_for_every_rollout_by_itself(answers):
    ctx, group = scored.context(services=scored.Vocabulary(PIECES)), scored.group([{"text": passes(*pair)} for pair in answers])
    SrpoAccuracy(weight=1.0).apply(ctx, [group])
    assert [r.value for r in group.rollouts] == [ACCURACY[one == "right", two == "right"] for one, two in answers]


def test_passes_are_taken_apart_at_their_marks():
    assert first_pass_end("<answer>a</answer>", "</answer>") is None
    assert two_passes("x</answer> y <think>b</answer>", "<think>", "</answer>") == ("x</answer>", "<think>b</answer>")
    assert two_passes("x</answer> y </answer>", "<think>", "</answer>") == ("x</answer>", " y </answer>")
