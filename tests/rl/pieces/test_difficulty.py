"""Weights by difficulty: ODSW, Observe-R1, UniVG-R1."""

import math
import random

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.rl.pieces.difficulty import ODSW, MeanScoreWeight, ObserveWeight, OnlineDifficulty, policy_pass_rate

rows = st.lists(st.fixed_dictionaries({"exact": st.sampled_from([0.0, 0.5, 1.0])}), min_size=1, max_size=8)
PIECES = [
    *(OnlineDifficulty(form=form) for form in ODSW), ObserveWeight(),
    *(MeanScoreWeight(form=form) for form in ("exp", "power", "log")),
]  # fmt: skip


def weighed(piece, group, mix=None):
    """Advantages after the piece, 1 and token advantages 2 and -1 before it."""
    made = scored.group(group, mix)
    for one in made.rollouts:
        one.advantage, one.token_advantages = (0.0, []) if one.is_masked else (1.0, [2.0, -1.0])
    piece.apply(scored.context(mix=mix), [made])
    for one in made.rollouts:
        assert one.token_advantages == ([] if one.is_masked else [2 * one.advantage, -one.advantage])
        assert one.weight == one.kl_weight == 1.0, "the KL term is not weighed"
    return [one.advantage for one in made.rollouts]


def of_rate(piece, right, wrong):
    return weighed(piece, [{"exact": 1.0}] * right + [{"exact": 0.0}] * wrong)[0]


@pytest.mark.proves("weigh.odsw", "vector")
@pytest.mark.parametrize(
    ("form", "expected"),
    # B15, ODSW at p 0, .25, .5, .75, 1.
    [("easy", [0, 0.707107, 1, 1, 1]), ("medium", [0, 0.707107, 1, 0.707107, 0]), ("hard", [0.25, 1, 1, 0.707107, 0])],
)  # fmt: skip
def test_odsw_by_the_guides_vectors(form, expected):
    found = [of_rate(OnlineDifficulty(form=form), right, 4 - right) for right in range(5)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert [one == 0 for one in found] == [one == 0 for one in expected], "an end is exactly nothing"


@pytest.mark.proves("weigh.odsw", "table")
def test_the_hard_windows():
    # h_1 keeps (0, 0.5], h_2 [0.25, 0.75], h_3 [0.5, 1]: at p 0, .25, .5, .75, 1.
    windows = {
        form: [of_rate(OnlineDifficulty(form=form), right, 4 - right) for right in range(5)] for form in ("h_1", "h_2", "h_3")
    }
    assert windows == {"h_1": [0, 1, 1, 0, 0], "h_2": [0, 1, 1, 1, 0], "h_3": [0, 0, 1, 1, 1]}


@pytest.mark.proves("weigh.observe", "vector")
def test_observe_by_the_guides_vector():
    # B15: 4 x 1.8 p (1 - p) at p .5, .125, 1.
    assert [of_rate(ObserveWeight(), *counts) for counts in ((1, 1), (1, 7), (3, 0))] == pytest.approx([1.8, 0.7875, 0.0])


@pytest.mark.proves("weigh.univg", "vector")
def test_univg_by_the_guides_vector_and_its_other_forms():
    # B15, exp form at mIoU 0.2: exp(0.8). Power: 1.05 - 0.2, and its square. Log: -log(0.22); it is 0, not negative, at 1.
    assert MeanScoreWeight(form="exp").weight(0.2) == pytest.approx(2.225541, abs=1e-6)
    assert MeanScoreWeight().weight(0.2) == pytest.approx(0.85)
    assert MeanScoreWeight(exponent=2.0).weight(0.2) == pytest.approx(0.7225)
    assert MeanScoreWeight(form="log").weight(0.2) == pytest.approx(-math.log(0.22))
    assert MeanScoreWeight(form="log").weight(1.0) == 0.0


@pytest.mark.proves("weigh.univg", "table")
def test_univg_looks_at_the_groups_mean_of_the_named_part():
    mix = scored.mixture({"exact": 1.0, "iou": 0.0})
    group = [{"exact": 1.0, "iou": 0.2}, {"exact": 0.0, "iou": 0.6}, {"exact": 1.0, "iou": None}]
    # Mean 0.4 of the two that could be judged: 1.05 - 0.4. The value's mean is 2/3.
    assert weighed(MeanScoreWeight(part="iou"), group, mix) == pytest.approx([0.65] * 3)
    assert weighed(MeanScoreWeight(), group, mix) == pytest.approx([1.05 - 2 / 3] * 3)
    with pytest.raises(ConfigError, match="no verifier 'io'"):
        MeanScoreWeight(part="io").check_mixture(mix)


@pytest.mark.proves("weigh.odsw", "law")
@pytest.mark.proves("weigh.observe", "law")
@pytest.mark.proves("weigh.univg", "law")
@given(rows, st.sampled_from(PIECES), st.integers(0, 2**20))
def test_one_bounded_weight_for_the_whole_group_whatever_its_order_and_its_masked(group, piece, seed):
    found = weighed(piece, group)
    assert len(set(found)) == 1 and 0.0 <= found[0] <= 4.0
    order = random.Random(seed).sample(range(len(group)), len(group))
    assert weighed(piece, [group[i] for i in order]) == pytest.approx(found)
    at = seed % (len(group) + 1)
    with_masked = weighed(piece, [*group[:at], {"exact": None}, *group[at:]])
    assert with_masked.pop(at) == 0.0 and with_masked == pytest.approx(found)


def test_injected_rollouts_say_nothing_about_the_policy():
    made = scored.group([{"exact": 1.0}, {"exact": 0.0}, {"exact": 0.0}])
    made.rollouts[0].kind = "demo"
    assert policy_pass_rate(made) == 0.0
    made.rollouts[0].kind = "edited"
    assert policy_pass_rate(made) == pytest.approx(1 / 3)
    assert policy_pass_rate(scored.group([{"exact": None}])) is None


def test_a_group_of_masked_rollouts_stays_as_it_is():
    for piece in PIECES:
        assert weighed(piece, [{"exact": None}]) == [0.0]


@pytest.mark.parametrize(
    "bad", [lambda: OnlineDifficulty(form="harder"), lambda: ObserveWeight(peak=0), lambda: MeanScoreWeight(form="x")]
)
def test_values_without_a_meaning_are_refused(bad):
    with pytest.raises(ValueError, match=r"(not known|must be)"):
        bad()
