"""Which prompts are kept: vectors, tables with their arithmetic, and laws."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.lesson_files import PromptStat
from factory.stages.select.config import SelectConfig
from factory.stages.select.keep import choose_prompts
from factory.stages.select.need import needs_images, rap_d
from factory.stages.select.repeats import OREAL, times_for
from factory.stages.select.rollouts import Scored, measure_prompt
from factory.stages.select.variance import in_top, reaches_quantile
from factory.stages.select.window import in_window


def rollout(index, value, *, masked=False, blind=False, tokens=5, finished=True, text=None, sample="s"):
    return Scored(sample, index, blind, text or f"text {index} {blind}", 0.0 if masked else value, masked, tokens, finished)


rollouts = st.lists(
    st.builds(
        rollout, st.integers(0, 50), st.sampled_from([0.0, 0.3, 0.999_999_999_9, 1.0]), masked=st.booleans(), blind=st.booleans(),
        tokens=st.integers(1, 40),
    ),
    max_size=12,
)  # fmt: skip
variances = st.lists(st.none() | st.floats(0, 0.25), min_size=1, max_size=20)


# --- what the rollouts of one prompt say ------------------------------------------------------------------------------------


def test_one_prompt_by_hand():
    found = measure_prompt(
        "s",
        [rollout(0, 1.0, tokens=4), rollout(1, 0.0, tokens=6), rollout(2, 1.0, masked=True, tokens=8), rollout(3, 0.5, tokens=10),
         rollout(0, 1.0, blind=True, tokens=99), rollout(1, 0.0, blind=True, tokens=99)],
        right_from=1.0,
    )  # fmt: skip
    # counted values 1, 0, .5: one of three is right; mean 1/2, variance (1/4 + 1/4 + 0) / 3 = 1/6; lengths (4+6+8+10)/4 = 7
    assert (found.num_right, found.num_counted, found.num_masked) == (1, 3, 1)
    assert found.pass_rate == pytest.approx(1 / 3) and found.variance == pytest.approx(1 / 6)
    assert found.mean_tokens == 7.0
    # one of two blind ones is right: D = 1/3 - 1/2
    assert found.blind_pass_rate == 0.5 and found.rap_d == pytest.approx(-1 / 6)


def test_right_from_counts_rounded_full_scores():
    # Three thirds may sum to 0.9999999999999999.
    for value, is_right in ((1.0 - 2**-53, True), (1.0 - 1e-6, False)):
        assert measure_prompt("s", [rollout(0, value)], 1.0).num_right == is_right
    assert measure_prompt("s", [rollout(0, 0.7), rollout(1, 0.69)], 0.7).num_right == 1


def test_a_prompt_whose_rollouts_are_all_masked_is_unknown_not_hopeless():
    found = measure_prompt("s", [rollout(0, 1.0, masked=True)], 1.0)
    assert (found.pass_rate, found.variance, found.num_masked) == (None, None, 1)
    (judged,) = choose_prompts([found], SelectConfig(min_pass=None, max_pass=None))
    assert not judged.kept and judged.why == "every rollout was masked"


@given(rollouts)
def test_the_variance_of_zero_one_rewards_is_p_times_one_minus_p(given_rollouts):
    binary = [dataclasses.replace(r, value=float(r.value == 1.0)) for r in given_rollouts]
    found = measure_prompt("s", binary, 1.0)
    if found.pass_rate is not None:
        assert found.variance == pytest.approx(found.pass_rate * (1 - found.pass_rate), abs=1e-12)


@given(rollouts, st.randoms(use_true_random=False))
def test_statistics_match_numpy_and_ignore_the_order_and_the_masked(given_rollouts, rng):
    found = measure_prompt("s", given_rollouts, 1.0)
    shuffled = rng.sample(given_rollouts, len(given_rollouts))
    assert measure_prompt("s", shuffled, 1.0) == found
    counted = np.array([r.value for r in given_rollouts if not r.masked and not r.blind], dtype=np.float64)
    if len(counted):
        assert found.pass_rate == (counted >= 1 - 1e-9).mean() and 0 <= found.pass_rate <= 1
        assert found.variance == pytest.approx(counted.var(), abs=1e-12)
    more = [*given_rollouts, rollout(99, 1.0, masked=True)]
    assert measure_prompt("s", more, 1.0).pass_rate == found.pass_rate


# --- pass window ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "below", "kept"),
    [
        (0.0, 1.0, [0.25, 0.5, 0.75]),  # OREAL, Intern-S1, Metis-RISE's own traces: 0 < p < 1
        (0.25, 1.0, [0.5, 0.75]),  # drop p = 1 and p <= .25 after a first measurement
        (0.0, None, [0.25, 0.5, 0.75, 1.0]),  # OpenVLThinker: whatever one of 4 answers right
        (None, None, [0.0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_windows_of_four_rollouts(above, below, kept):
    assert [p / 4 for p in range(5) if in_window(p / 4, above, below)] == kept
    assert not in_window(None, above, below)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_wider_window_keeps_at_least_as_much(p, low, high, slack):
    assert in_window(p, low, high) <= in_window(p, low - slack, high + slack)


# --- RAP --------------------------------------------------------------------------------------------------------------------


def test_rap_d_vector():
    # guides B15: M 8, 6 right with the image, 1 without: (6 - 1) / 8
    assert rap_d(6 / 8, 1 / 8) == 0.625 and needs_images(0.625)
    # (5 - 1) / 8 is the threshold itself, (4 - 1) / 8 lies below
    assert needs_images(rap_d(5 / 8, 1 / 8)) and not needs_images(rap_d(4 / 8, 1 / 8)) and not needs_images(None)
    # .7 - .2 is 0.49999999999999994 in floats
    assert needs_images(rap_d(0.7, 0.2))


@given(st.integers(1, 16), st.data())
def test_rap_d_is_the_papers_formula_for_any_m(m, data):
    with_image, without = data.draw(st.integers(0, m)), data.draw(st.integers(0, m))
    shown = [rollout(i, float(i < with_image)) for i in range(m)] + [rollout(i, float(i < without), blind=True) for i in range(m)]
    found = measure_prompt("s", shown, 1.0)
    assert found.rap_d == pytest.approx((with_image - without) / m) and -1 <= found.rap_d <= 1
    assert measure_prompt("s", shown, 1.0, is_text_only=True).rap_d == 0.0


# --- variance ---------------------------------------------------------------------------------------------------------------


def test_quantile_by_hand():
    # spreads 0, .1, .2, .4: the median interpolates to .15, the .9-quantile to .2 + .7 * .2 = .34
    squares = [0.0, 0.01, 0.04, 0.16]
    assert reaches_quantile(squares, 0.5) == [False, False, True, True]
    assert reaches_quantile(squares, 0.9) == [False, False, False, True]
    assert reaches_quantile(squares, 0.0) == [True] * 4
    # a tie at the threshold is kept: the median of .25 .25 .25 0 is .25
    assert reaches_quantile([0.0625, None, 0.0625, 0.0625, 0.0], 0.5) == [True, False, True, True, False]


@given(variances, st.floats(0, 1))
def test_quantile_matches_numpy_and_keeps_its_share(given_variances, q):
    kept = reaches_quantile(given_variances, q)
    known = np.sqrt([v for v in given_variances if v is not None])
    if len(known):
        threshold = np.quantile(known, q)
        for variance, is_kept in zip(given_variances, kept, strict=True):
            if variance is not None and abs(np.sqrt(variance) - threshold) > 1e-9:
                assert is_kept == (np.sqrt(variance) > threshold)
        # At least the floor((1-q)(n-1)) + 1 largest lie at or above the q-quantile.
        assert sum(kept) >= int((1 - q) * (len(known) - 1)) + (q <= 1)
    assert not any(is_kept for variance, is_kept in zip(given_variances, kept, strict=True) if variance is None)


@given(variances, st.integers(1, 25), st.randoms(use_true_random=False))
def test_top_keeps_the_largest_and_moves_with_the_prompts(given_variances, num, rng):
    names = [f"s{i}" for i in range(len(given_variances))]
    kept = in_top(given_variances, names, num)
    known = sum(variance is not None for variance in given_variances)
    assert sum(kept) == min(num, known)
    inside = [v for v, k in zip(given_variances, kept, strict=True) if k]
    outside = [v for v, k in zip(given_variances, kept, strict=True) if not k and v is not None]
    assert not inside or not outside or min(inside) >= max(outside)
    order = rng.sample(range(len(names)), len(names))
    moved = in_top([given_variances[i] for i in order], [names[i] for i in order], num)
    assert moved == [kept[i] for i in order]


# --- repeats ----------------------------------------------------------------------------------------------------------------


def test_oreal_repeat_table():
    # (0,.2): 6, [.2,.4): 4, [.4,.6): 4, [.6,.8): 2, above: once
    rates = [1 / 16, 3 / 16, 1 / 5, 2 / 5, 0.59, 3 / 5, 0.79, 4 / 5, 15 / 16]
    assert [times_for(rate, OREAL) for rate in rates] == [6, 6, 4, 4, 4, 2, 2, 1, 1]
    assert [times_for(rate, ()) for rate in rates] == [1] * 9


@given(st.floats(0, 1), st.floats(0, 1))
def test_harder_prompts_are_never_repeated_less(p, q):
    assert times_for(min(p, q), OREAL) >= times_for(max(p, q), OREAL)


# --- together ---------------------------------------------------------------------------------------------------------------


def stat(name, rate, variance=None, gain=None):
    variance = rate * (1 - rate) if variance is None and rate is not None else variance
    return PromptStat(name, rate, variance, kept=False, repeat=0, rap_d=gain)


def test_every_selector_tells_why():
    stats = [stat("a", 0.0), stat("b", 1.0), stat("c", 0.5, gain=0.4), stat("d", 0.5, gain=0.5), stat("e", 0.9, gain=0.9)]
    config = SelectConfig(blind_rollouts=8, variance_quantile=0.6, repeat=[list(row) for row in OREAL])
    told = [(found.kept, found.why, found.repeat) for found in choose_prompts(stats, config)]
    # spreads 0, 0, .5, .5, .3: the .6-quantile lies at place 2.4 of (0, 0, .3, .5, .5), .3 + .4 * .2 = .38
    assert told == [
        (False, "pass rate 0 is not above min_pass", 0),
        (False, "pass rate 1 is not below max_pass", 0),
        (False, "RAP D is 0.4, wanted 0.5", 0),
        (True, "kept", 4),
        (False, "reward variance 0.09 is too small", 0),
    ]


configs = st.builds(
    SelectConfig,
    min_pass=st.none() | st.sampled_from([0.0, 0.25]),
    max_pass=st.none() | st.sampled_from([0.75, 1.0]),
    variance_quantile=st.none() | st.floats(0, 1),
    blind_rollouts=st.sampled_from([0, 8]),
)
stats_lists = st.lists(
    st.tuples(st.none() | st.sampled_from([k / 8 for k in range(9)]), st.none() | st.floats(-1, 1)), min_size=1, max_size=12
).map(lambda pairs: [stat(f"s{i}", rate, gain=gain) for i, (rate, gain) in enumerate(pairs)])


@given(stats_lists, configs, st.randoms(use_true_random=False))
def test_choice_moves_with_the_prompts_and_changes_nothing_else(stats, config, rng):
    chosen = choose_prompts(stats, config)
    order = rng.sample(range(len(stats)), len(stats))
    assert choose_prompts([stats[i] for i in order], config) == [chosen[i] for i in order]
    for before, after in zip(stats, chosen, strict=True):
        assert dataclasses.replace(after, kept=False, why="", repeat=0) == before
        assert (after.why == "kept") == after.kept == (after.repeat > 0)
    # Choosing again among all changes nothing: no selector looks at what another left.
    assert choose_prompts(chosen, config) == chosen


@given(stats_lists, configs)
def test_two_selectors_keep_what_each_of_them_keeps(stats, config):
    both = [found.kept for found in choose_prompts(stats, config)]
    window = dataclasses.replace(config, variance_quantile=None, blind_rollouts=0)
    spread = dataclasses.replace(config, min_pass=None, max_pass=None, blind_rollouts=0)
    need = dataclasses.replace(config, min_pass=None, max_pass=None, variance_quantile=None)
    alone = [[found.kept for found in choose_prompts(stats, one)] for one in (window, spread, need)]
    assert both == [all(votes) for votes in zip(*alone, strict=True)]


def test_top_and_window_together():
    stats = [stat(f"s{i}", rate) for i, rate in enumerate([0.1, 0.5, 0.5, 0.9, 1.0])]
    kept = {n: [s.sample_id for s in choose_prompts(stats, SelectConfig(variance_top=n)) if s.kept] for n in (1, 2, 4)}
    # .25 .25 before .09 .09 before 0; equal ones by name
    assert kept == {1: ["s1"], 2: ["s1", "s2"], 4: ["s0", "s1", "s2", "s3"]}


def test_order_of_the_table_rows_is_checked_for_every_permutation():
    from factory.errors import ConfigError

    rows = [[0.2, 6], [0.6, 4], [0.8, 2]]
    for order in itertools.permutations(rows):
        config = SelectConfig(repeat=list(order))
        if list(order) == rows:
            config.validate("stages.x")
        else:
            with pytest.raises(ConfigError, match=r"stages\.x\.repeat"):
                config.validate("stages.x")
