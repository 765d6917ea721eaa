"""APO's STCR: wrong answers that are longer than the right ones."""

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.stcr import SuboptimalComplexity, stcr_factor

rows = st.lists(
    st.fixed_dictionaries({"exact": st.sampled_from([0.0, 0.5, 1.0]), "tokens": st.integers(1, 9000)}), min_size=1, max_size=8
)


def factors(group, **settings):
    made = scored.group(group)
    for one in made.rollouts:
        one.advantage, one.token_advantages = (0.0, []) if one.is_masked else (-1.0, [-2.0])
    SuboptimalComplexity(**settings).apply(scored.context(), [made])
    assert all(one.token_advantages == ([] if one.is_masked else [2 * one.advantage]) for one in made.rollouts)
    return [-one.advantage for one in made.rollouts]


@pytest.mark.proves("weigh.stcr", "vector")
def test_by_the_guides_vector():
    # B15: 100 and 1000 tokens over.
    assert [stcr_factor(x) for x in (100, 1000)] == pytest.approx([1.000999, 1.009950], abs=1e-6)


@pytest.mark.proves("weigh.stcr", "table")
def test_only_long_wrong_answers_beside_right_ones():
    # Right ones of 100 and 300 tokens, mean 200. Wrong with 300: 100 over. Wrong with 200: none over. Base 2: 1 token over is 1.5.
    group = [
        {"exact": 1.0, "tokens": 100},
        {"exact": 1.0, "tokens": 300},
        {"exact": 0.0, "tokens": 300},
        {"exact": 0.0, "tokens": 200},
    ]
    assert factors(group) == pytest.approx([1.0, 1.0, 1.000999, 1.0], abs=1e-6)
    assert factors([{"tokens": 1}, {"exact": 0.0, "tokens": 2}], base=2.0) == [1.0, 1.5]
    assert factors([{"exact": 0.0, "tokens": 9}, {"exact": 0.0, "tokens": 999}]) == [1.0, 1.0]
    with pytest.raises(ValueError, match="base"):
        SuboptimalComplexity(base=1.0)


@pytest.mark.proves("weigh.stcr", "law")
@given(rows, st.integers(0, 2**20))
def test_a_factor_from_one_to_two_that_grows_with_length(group, seed):
    found = factors(group)
    assert all(1.0 <= one < 2.0 for one in found)
    assert all(one == 1.0 for one, row in zip(found, group, strict=True) if row["exact"] == 1)
    wrong = sorted((row["tokens"], one) for one, row in zip(found, group, strict=True) if row["exact"] < 1)
    assert [one for _, one in wrong] == sorted(one for _, one in wrong)
    assert factors(group[::-1]) == found[::-1]
    at = seed % (len(group) + 1)
    with_masked = factors([*group[:at], {"exact": None, "tokens": 9999}, *group[at:]])
    assert with_masked.pop(at) == 0.0 and with_masked == found
