"""Line weights by nearness to the whole text (ours)."""

import math
from collections import Counter

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.segments import LineGain, cosine, line_gains, token_weights

PIECES = ["a ", "b\n", "c", "\n", "a ", "d", "<eos>"]


@pytest.mark.proves("token_weight.line_gain", "table")
def test_gains_and_weights_by_hand():
    # "a b" and "a": counts {a 2, b 1}. cos({a 1, b 1}, whole) = 3 / sqrt(2 x 5) = 0.948683; then 1: gains .948683, .051317.
    gains = line_gains(["a b\n", "a"])
    assert gains == pytest.approx([0.948683, 0.051317], abs=1e-6)
    # Two tokens and one token, floor 0.5: 0.5 + 0.5 x 0.948683 x 3/2 = 1.211512; 0.5 + 0.5 x 0.051317 x 3 = 0.576975.
    assert token_weights(gains, [2, 1], 0.5) == pytest.approx([1.211512, 1.211512, 0.576975], abs=1e-6)
    assert token_weights([0.0, 0.0], [1, 2], 0.5) == [1.0, 1.0, 1.0]


@pytest.mark.proves("token_weight.line_gain", "law")
@given(
    st.lists(st.tuples(st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join), st.integers(0, 5)), min_size=1, max_size=6),
    st.floats(0, 0.99),
)
def test_the_mean_weight_is_one_and_no_token_falls_below_the_floor(lines, floor):
    lengths = [length for _, length in lines]
    gains = line_gains([line for line, _ in lines])
    assert all(0 <= gain <= 1 + 1e-12 for gain in gains)
    found = token_weights(gains, lengths, floor)
    assert len(found) == sum(lengths)
    if found:
        assert math.isclose(math.fsum(found) / len(found), 1.0, rel_tol=1e-9) and min(found) >= floor - 1e-12


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_cosine_is_symmetric_and_one_for_equal_texts(one, other):
    assert cosine(Counter(one), Counter(other)) == pytest.approx(cosine(Counter(other), Counter(one)))
    assert 0 <= cosine(Counter(one), Counter(other)) <= 1 + 1e-12
    assert cosine(Counter(one), Counter(one)) == pytest.approx(1.0 if one else 0.0)


def test_every_token_of_a_line_has_its_weight_and_the_end_belongs_to_the_last():
    services = scored.Vocabulary(PIECES)
    made = scored.group([{}, {}, {}])
    made.rollouts[0].ids, made.rollouts[0].advantage = services.encode("a ", "b\n", "c"), 1.0
    made.rollouts[0].token_weights = [2.0, 1.0, 1.0]
    made.rollouts[1].advantage, made.rollouts[1].ids = 1.0, []
    LineGain(floor=0.0).apply(scored.context(services=services), [made])
    gains = line_gains(["a b\n", "c"])
    expected = token_weights(gains, [2, 1], 0.0)
    assert made.rollouts[0].token_weights == pytest.approx([2 * expected[0], expected[1], expected[2]])
    assert made.rollouts[1].token_weights == made.rollouts[2].token_weights == []
    with pytest.raises(ValueError, match="floor"):
        LineGain(floor=1.0)


@pytest.mark.proves("token_weight.line_gain", "run")
def test_a_real_run(run_stage):
    _, rows, _ = run_stage(num_steps=3, pieces={"token_weight": "line_gain"})
    assert rows[-1]["reward"] >= rows[0]["reward"] and rows[0]["updates"] == 1.0
