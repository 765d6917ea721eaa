"""Samplers of the whole pool: in passes, by Kimi's priority, by spread."""

import math
from collections import Counter

import pytest
from fake_policy import FakePolicy, context, group_of, pool_of, resumes, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import ConfigError, TrainingError
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.eligible import RetireSolved
from factory.stages.rl.pieces.sampler import Shuffled
from factory.stages.rl.pieces.weighted import KimiPriority, StepDraws, VarianceSampler, draw_by_weight

MAKERS = {
    "sampler.shuffled": Shuffled, "sampler.kimi_priority": lambda: KimiPriority(opening=0.5),
    "sampler.variance": lambda: VarianceSampler(q=0.3),
}  # fmt: skip
RISING = FakePolicy(lambda one, step: (int(one.id[1:]) * 3 + step) % 11 / 10)
every_sampler = [pytest.param(make, marks=[pytest.mark.proves(key, "law")], id=key) for key, make in MAKERS.items()]


@pytest.mark.parametrize("make_one", every_sampler)
@given(st.sets(st.integers(0, 9), max_size=9), st.integers(1, 14), st.integers(0, 3))
def test_only_eligible_prompts_and_the_same_under_the_same_seed(make_one, gone, num, seed):
    def draw(seed):
        pool = pool_of(10, keeps=[lambda stat: stat.place not in gone])
        history = simulate(make_one(), pool, RISING, steps=4, num=num, seed=seed)
        return history

    found = draw(seed)
    assert found == draw(seed)
    assert all(len(places) == num and not gone & set(places) for places in found)


@pytest.mark.parametrize("make_one", every_sampler)
def test_an_empty_pool_is_an_error_and_seeds_differ(make_one):
    with pytest.raises(TrainingError, match="may be drawn any more"):
        make_one().draw(context(), pool_of(3, keeps=[lambda stat: False]), 1)
    runs = {str(simulate(make_one(), pool_of(30), RISING, steps=3, num=8, seed=seed)) for seed in range(4)}
    assert len(runs) == 4


@pytest.mark.parametrize(
    "make_one", [pytest.param(make, marks=[pytest.mark.proves(key, "resume")], id=key) for key, make in MAKERS.items()]
)
def test_resumed_draws_equal_uninterrupted_ones(make_one):
    assert resumes(make_one, RISING, pool=lambda: pool_of(8))


@pytest.mark.proves("sampler.shuffled", "table")
@pytest.mark.proves("sampler.shuffled", "law")
@given(st.integers(1, 12), st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(0, 5))
def test_every_pass_is_a_permutation_of_the_pool(size, sizes, seed):
    # whatever the sizes of the draws: the stream cut into pieces of the pool's size gives permutations
    sampler, pool = Shuffled(), pool_of(size)
    stream = [place for num in sizes for place in sampler.draw(context(seed=seed), pool, num)]
    for start in range(0, len(stream) - size + 1, size):
        assert sorted(stream[start : start + size]) == list(range(size))


def test_shuffled_passes_differ_and_retired_prompts_are_passed_over():
    sampler, pool = Shuffled(), pool_of(20)
    assert sampler.draw(context(), pool, 20) != sampler.draw(context(), pool, 20)
    keep = RetireSolved()
    pool = pool_of(20, keeps=[keep.keeps])
    pool.observe(0, [group_of(pool.samples[i], 4, 4) for i in range(10)])
    assert sorted(Shuffled().draw(context(), pool, 10)) == list(range(10, 20))


@pytest.mark.proves("sampler.kimi_priority", "table")
def test_priority_is_one_minus_success_rate():
    # rates 1, .75, .25, unknown (.5): weights 0, .25, .75, .5 -> chances 0, 1/6, 1/2, 1/3
    pool = pool_of(4, offline={"p000": 1.0, "p001": 0.75, "p002": 0.25})
    counts = Counter(KimiPriority().draw(context(step, 6000), pool, 1)[0] for step in range(6000))
    expected = {1: 1 / 6, 2: 1 / 2, 3: 1 / 3}
    assert counts[0] == 0
    for place, share in expected.items():
        # within 4 standard deviations of a binomial count
        assert abs(counts[place] - 6000 * share) < 4 * math.sqrt(6000 * share * (1 - share))


@pytest.mark.proves("sampler.kimi_priority", "run")
def test_priority_follows_a_policy_of_known_rates():
    # every prompt keeps its rate i/10; once all are measured, draws are as 1 - rate: 10:9:…:1, the solved one never
    pool, sampler = pool_of(11), KimiPriority(unseen=0.0)
    policy = FakePolicy(lambda one, step: int(one.id[1:]) / 10)
    pool.observe(0, policy.groups(pool.samples))
    counts = Counter(place for places in simulate(sampler, pool, policy, steps=5500, num=1) for place in places)
    for place in range(11):
        share = (1 - place / 10) / 5.5
        assert abs(counts[place] - 5500 * share) <= 4 * math.sqrt(5500 * share * (1 - share)), place


@pytest.mark.proves("sampler.kimi_priority", "run")
def test_the_curriculum_opens_from_easy_to_hard():
    labels = {f"p{i:03d}": 1 - i / 40 for i in range(40)}
    pool, policy = pool_of(40, offline=labels), FakePolicy(lambda one, step: 0.5)
    history = simulate(KimiPriority(opening=0.5), pool, policy, steps=40, num=4)
    # opened at step s of 40: max(4, ceil(s / 20 * 40)) = 2 s of the easiest, all from step 20 on
    for step, places in enumerate(history):
        assert max(places) < (max(4, 2 * step) if step < 20 else 40)
    assert max(place for places in history[20:] for place in places) > 35


@pytest.mark.proves("sampler.variance", "table")
def test_variance_draws_by_spread_above_the_quantile():
    # stds of right shares 0, .1, .5, .2, 1 of 10: 0, .3, .5, .4, 0; q .75 of (0, 0, .3, .4, .5) is .4 -> weights 0 0 .5 .4 0
    pool = pool_of(5)
    pool.observe(0, [group_of(pool.samples[i], right, 10) for i, right in enumerate((0, 1, 5, 2, 10))])
    counts = Counter(VarianceSampler(q=0.75).draw(context(step, 4500), pool, 1)[0] for step in range(4500))
    assert set(counts) == {2, 3} and abs(counts[2] - 2500) < 4 * math.sqrt(4500 * 5 / 9 * 4 / 9)
    assert set(Counter(VarianceSampler(top=1).draw(context(step), pool, 1)[0] for step in range(50))) == {2}


@pytest.mark.proves("sampler.variance", "run")
def test_variance_measures_all_then_stays_with_the_undecided():
    pool, policy = pool_of(21), FakePolicy(lambda one, step: int(one.id[1:]) / 20, size=20)
    history = simulate(VarianceSampler(q=0.5), pool, policy, steps=60, num=4)
    assert {place for places in history for place in places} == set(range(21)), "each was measured"
    late = [place / 20 for places in history[-20:] for place in places]
    # the upper half of p(1-p) over 0, .05 … 1 lies from .25 to .75
    assert min(late) >= 0.2 and max(late) <= 0.8


@given(st.lists(st.floats(0, 5), min_size=1, max_size=10), st.integers(1, 12), st.integers(0, 99))
def test_weighted_draws_are_different_places_of_positive_weight(weights, num, step):
    places = list(range(100, 100 + len(weights)))
    found = draw_by_weight(context(step).rng("x"), places, weights, num)
    positive = [place for place, weight in zip(places, weights, strict=True) if weight > 0]
    assert len(found) == len(set(found)) == min(num, len(positive)) and set(found) <= set(positive)


def test_weighted_draws_without_replacement_follow_the_weights_left():
    # weights 1, 2, 5: P(first 2, then 1) = 5/8 * 2/3 = .4167; all six orders by the same rule
    weights, counts, num = [1.0, 2.0, 5.0], Counter(), 8000
    for step in range(num):
        counts[tuple(draw_by_weight(context(step, num).rng("x"), [0, 1, 2], weights, 2))] += 1
    for one in range(3):
        for two in set(range(3)) - {one}:
            chance = weights[one] / 8 * weights[two] / (8 - weights[one])
            assert abs(counts[one, two] - num * chance) < 4 * math.sqrt(num * chance * (1 - chance))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 9))
def test_refills_of_a_step_repeat_no_prompt_before_all_came(sizes, step):
    draws, places = StepDraws(), list(range(7))
    weights = [1.0] * 6 + [0.0]
    stream = [place for num in sizes for place in draws.draw(context(step), places, weights, num)]
    for start in range(0, len(stream) - 5, 6):
        assert sorted(stream[start : start + 6]) == list(range(6))
    assert 6 not in stream


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kimi_priority", {"unseen": 1.5}, r"must be in \[0, 1\]"),
        ("kimi_priority", {"opening": -0.1}, r"must be in \[0, 1\]"),
        ("variance", {}, "give q"),
        ("variance", {"q": 0.2, "top": 2}, "one of the two"),
    ],
)
def test_bad_settings_are_refused(name, values, message):
    with pytest.raises(ConfigError, match=message):
        make("sampler", name, values)
