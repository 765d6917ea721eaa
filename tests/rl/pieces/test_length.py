"""Length rewards: vectors of the guides, tables by hand, and what holds for any group."""

import math

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.length import (
    DastLength,
    EfficientLength,
    KimiLength,
    Repetition,
    ShortestBonus,
    VlCogitoLength,
    fallback_cosine,
    kimi_terms,
    target_cosine,
)

rows = st.lists(
    st.fixed_dictionaries({"exact": st.sampled_from([0.0, 0.5, 1.0]), "tokens": st.integers(1, 5000), "text": st.text("ab ", max_size=40)}),
    min_size=1, max_size=8,
)  # fmt: skip
seeds = st.integers(0, 2**20)


def lengths(*pairs):
    return [{"exact": exact, "tokens": tokens} for exact, tokens in pairs]


@pytest.mark.proves("group_reward.kimi_length", "vector")
def test_kimi_by_the_guides_vectors():
    # B15, Kimi length: [100, 200, 300, 300] right right right wrong; [100 wrong, 300 right].
    assert kimi_terms([100, 200, 300, 300], [True, True, True, False]) == [0.5, 0.0, -0.5, -0.5]
    assert kimi_terms([100, 300], [False, True]) == [0.0, -0.5]


@pytest.mark.proves("group_reward.kimi_length", "table")
def test_kimi_is_off_at_first_and_then_weighs_its_term():
    piece = KimiLength(weight=0.2, off_until=0.5)
    group = lengths((1.0, 100), (1.0, 300))
    # Step 49 of 100 is before one half: nothing. From step 50 on: 0.2 x (0.5, -0.5).
    assert scored.terms(piece, scored.context(49), group) == [0.0, 0.0]
    assert scored.terms(piece, scored.context(50), group) == pytest.approx([0.1, -0.1])
    assert scored.terms(piece, scored.context(50), lengths((1.0, 100), (0.0, 100))) == [0.0, 0.0]


@pytest.mark.proves("group_reward.kimi_length", "law")
@given(rows, seeds)
def test_kimi_lies_within_half_the_weight_and_never_rewards_a_wrong_answer(group, seed):
    found = scored.hold_group_laws(KimiLength(weight=1.0, off_until=0.0), scored.context(), group, seed)
    assert all(-0.5 <= term <= 0.5 for term in found)
    assert all(term <= 0 for term, row in zip(found, group, strict=True) if row["exact"] < 1)
    if len({row["tokens"] for row in group}) == 1:
        assert found == [0.0] * len(group)


@pytest.mark.proves("group_reward.vl_cogito_length", "vector")
def test_vl_cogito_by_the_guides_vectors():
    # B15: target 400 and lengths 0, 200, 400, 600, 800; without a right answer, target 750: 0, 750, 3000, 4096.
    assert [target_cosine(n, 400) for n in (0, 200, 400, 600, 800)] == pytest.approx([-0.5, -0.25, 0.0, -0.25, -0.5], abs=1e-12)
    assert [fallback_cosine(n, 750, 4096) for n in (0, 750, 3000, 4096)] == pytest.approx([-0.25, 0.0, 0.0, -0.25])


@pytest.mark.proves("group_reward.vl_cogito_length", "table")
def test_vl_cogito_draws_wrong_answers_to_the_mean_length_of_the_right():
    # Right: 300 and 500 tokens, so L* = 400. Wrong with 200 tokens: -0.25 (1 + cos(pi / 2)) = -0.25.
    group = lengths((1.0, 300), (1.0, 500), (0.0, 200), (0.0, 400))
    assert scored.terms(VlCogitoLength(), scored.context(), group) == pytest.approx([0.0, 0.0, -0.25, 0.0], abs=1e-12)
    # No right one: -0.125 (1 + cos(pi 375 / 750)) = -0.125; 800 tokens are beyond the target.
    assert scored.terms(VlCogitoLength(), scored.context(), lengths((0.0, 375), (0.0, 800))) == pytest.approx([-0.125, 0.0])
    # Repetition counts for the wrong one: 3-grams of six equal words, 1 - 1/4, times 0.5, on top of the cosine's 0.
    looping = [{"exact": 1.0, "tokens": 400, "text": "a a a a a a"}, {"exact": 0.0, "tokens": 400, "text": "a a a a a a"}]
    assert scored.terms(VlCogitoLength(ngram=3), scored.context(), looping) == pytest.approx([0.0, -0.375], abs=1e-12)


@pytest.mark.proves("group_reward.vl_cogito_length", "law")
@given(rows, seeds)
def test_vl_cogito_never_touches_right_answers_and_takes_at_most_one(group, seed):
    found = scored.hold_group_laws(VlCogitoLength(ngram=2), scored.context(), group, seed)
    assert all(term == 0 if row["exact"] == 1 else -1.0 <= term <= 0 for term, row in zip(found, group, strict=True))


@pytest.mark.proves("group_reward.shortest_bonus", "table")
def test_the_shortest_right_answer_above_the_least_length_gets_the_bonus():
    piece = ShortestBonus()
    assert scored.terms(piece, scored.context(), lengths((0.0, 101), (1.0, 120), (1.0, 300))) == [0.0, 0.2, 0.0]
    # The shortest right one has 100 tokens, which is not longer than 100: nobody is rewarded in its place.
    assert scored.terms(piece, scored.context(), lengths((1.0, 100), (1.0, 300))) == [0.0, 0.0]
    # The released code gives rollout 0 of an all-wrong group the bonus.
    assert scored.terms(piece, scored.context(), lengths((0.0, 200), (0.0, 300))) == [0.0, 0.0]


@pytest.mark.proves("group_reward.shortest_bonus", "law")
@given(rows, seeds)
def test_the_bonus_goes_to_right_answers_of_one_length(group, seed):
    found = scored.hold_group_laws(ShortestBonus(), scored.context(), group, seed)
    winners = [row for row, term in zip(group, found, strict=True) if term]
    assert set(found) <= {0.0, 0.2} and all(row["exact"] == 1 for row in winners)
    assert len({row["tokens"] for row in winners}) <= 1


@pytest.mark.proves("group_reward.dast_length", "vector")
def test_dast_by_the_guides_vector():
    # B15: p 0.5, Lr 100, Lmax 200, so Lb = 150. A right one of 150: 0.5; a wrong one of 100: 0.9 (-1/3) - 0.1 = -0.4.
    piece = DastLength()
    assert (piece.term(0.0, True), piece.term(-50 / 150, False)) == pytest.approx((0.5, -0.4))


@pytest.mark.proves("group_reward.dast_length", "table")
def test_dast_budget_from_the_group():
    # Full reward: 100. Lmax 200, p 1/2: Lb = 50 + 100 = 150. Right 100: x = -1/3, -0.5 x + 0.5 = 0.6667.
    # Wrong 200: x = 1/3, 0.9 x - 0.1 = 0.2, held at -0.1. Half a score is not full.
    assert scored.terms(DastLength(), scored.context(), lengths((1.0, 100), (0.5, 200))) == pytest.approx([2 / 3, -0.1])
    # No full reward: Lb = Lmax = 200; the wrong one of 100: x = -1/2, -0.55.
    assert scored.terms(DastLength(), scored.context(), lengths((0.0, 100), (0.0, 200))) == pytest.approx([-0.55, -0.1])


@pytest.mark.proves("group_reward.dast_length", "law")
@given(rows, seeds)
def test_dast_parts_right_from_wrong_whatever_their_lengths(group, seed):
    found = scored.hold_group_laws(DastLength(), scored.context(), group, seed)
    for term, row in zip(found, group, strict=True):
        assert 0.1 <= term <= 1.0 if row["exact"] == 1 else -1.0 <= term <= -0.1


@pytest.mark.proves("reward.efficient_length", "vector")
def test_efficient_length_by_the_guides_vector():
    # B15: budget 600 and lengths 500, 600, 700: 1, 0.5, 0, here at full weight.
    piece = EfficientLength(budget=600, weight=1.0)
    assert [piece.score(None, None, scored.rollout(tokens=n)) for n in (500, 600, 700)] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.proves("reward.efficient_length", "law")
@given(st.integers(1, 4000), st.integers(0, 4000), st.integers(0, 4000))
def test_efficient_length_never_rises_with_length(budget, one, other):
    piece = EfficientLength(budget=budget)
    short, long = sorted((one, other))
    scores = [piece.score(None, None, scored.rollout(tokens=n)) for n in (short, long)]
    assert 0.05 >= scores[0] >= scores[1] >= 0.0


@pytest.mark.proves("reward.repetition", "vector")
def test_repetition_by_the_guides_vector():
    # B15: 3-gram, at most -0.5, six times the same word: 4 trigrams, 1 distinct, so 0.5 x 3/4.
    piece = Repetition(ngram=3, factor=0.5)
    assert piece.score(None, None, scored.rollout(text="a a a a a a")) == -0.375
    assert piece.score(None, None, scored.rollout(text="a b")) == 0.0
    assert piece.score(None, None, scored.rollout(text="A a a a a a")) == -0.375, "case does not make words distinct"


@pytest.mark.proves("reward.repetition", "law")
@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 5), st.floats(0.1, 2))
def test_repetition_by_a_slow_count(words, ngram, factor):
    grams = [" ".join(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    expected = -factor * (1 - len(set(grams)) / len(grams)) if grams else 0.0
    found = Repetition(ngram=ngram, factor=factor).score(None, None, scored.rollout(text="  ".join(words)))
    assert math.isclose(found, expected, abs_tol=1e-12) and -factor < found <= 0.0


@pytest.mark.parametrize(
    "bad",
    [lambda: KimiLength(weight=0.0, off_until=0.0), lambda: KimiLength(weight=1.0, off_until=1.0), lambda: VlCogitoLength(target=5000),
     lambda: ShortestBonus(bonus=0.0), lambda: EfficientLength(budget=0), lambda: Repetition(ngram=0)],
)  # fmt: skip
def test_values_without_a_meaning_are_refused(bad):
    with pytest.raises(ValueError, match=r"(must be|want)"):
        bad()


def test_the_kimi_weight_has_no_default():
    from factory.errors import ConfigError
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.presets import resolve

    with pytest.raises(ConfigError, match="needs weight, off_until"):
        resolve(RlConfig(preset="grpo", pieces={"group_reward": "kimi_length"}))
