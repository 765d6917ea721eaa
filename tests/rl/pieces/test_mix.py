"""Mixtures of data sets and fixed shares of difficulty."""

import math
from collections import Counter

import pytest
from fake_policy import FakePolicy, context, resumes, sample, simulate
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError, DataError, TrainingError
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.data_mixture import DifficultyPool, Mix
from factory.stages.rl.pieces.eligible import RetireSolved
from factory.stages.rl.pool import PromptPool

POLICY = FakePolicy(lambda one, step: (len(one.id) + step) % 3 / 2, size=4)


def pool_of_sets(sizes, *, field="source", **settings):
    """So many samples of each set; ids `set-number`."""
    samples = []
    for name, size in sizes.items():
        values = {"level": name} if field == "meta.level" else {field: name}
        samples += [sample(f"{name}-{i}", **values) for i in range(size)]
    return PromptPool(samples, **settings)


def set_names(pool, places):
    return [pool.samples[place].id.split("-")[0] for place in places]


@pytest.mark.proves("sampler.mix", "table")
@pytest.mark.parametrize("field", ["source", "task", "meta.level"])
def test_sets_come_by_weight(field):
    # weights 1 : 3 : 0 -> shares 1/4, 3/4, 0
    pool = pool_of_sets({"a": 3000, "b": 3000, "c": 5}, field=field)
    found = Mix(by=field, weights={"a": 1, "b": 3, "c": 0}).draw(context(), pool, 3000)
    counts = Counter(set_names(pool, found))
    assert counts["c"] == 0 and abs(counts["a"] - 750) < 4 * math.sqrt(3000 * 3 / 16)
    assert len(set(found)) == 3000, "unseen prompts only"


def test_without_weights_all_sets_count_alike_whatever_their_size():
    pool = pool_of_sets({"a": 2000, "b": 5000, "": 2000})
    counts = Counter(set_names(pool, Mix().draw(context(), pool, 3000)))
    assert all(abs(counts[name] - 1000) < 4 * math.sqrt(3000 * 2 / 9) for name in ("a", "b", ""))


@pytest.mark.proves("sampler.mix", "table")
def test_an_exhausted_set_ends_the_run_or_starts_again():
    pool = pool_of_sets({"a": 2, "b": 50})
    stop = Mix(weights={"a": 1, "b": 1})
    places, drawn = [], 0
    while not stop.is_over:
        places, drawn = places + stop.draw(context(drawn), pool, 4), drawn + 1
    # the last step is whole, of the other set, and no prompt came twice
    assert len(places) == 4 * drawn == len(set(places)) and drawn < 6
    assert set_names(pool, places).count("a") == 2
    cycle = Mix(weights={"a": 1, "b": 1}, on_exhausted="cycle")
    counts = Counter(cycle.draw(context(), pool, 40))
    assert not cycle.is_over and abs(counts[0] - counts[1]) <= 1 and counts[0] + counts[1] > 8
    assert max(times for place, times in counts.items() if place > 1) == 1


def test_a_set_that_pool_pieces_have_emptied_is_exhausted():
    pool = pool_of_sets({"a": 2, "b": 6}, keeps=[RetireSolved().keeps])
    pool.observe(0, FakePolicy(lambda one, step: 1.0).groups(pool.samples[:2]))
    over = Mix()
    assert set(set_names(pool, over.draw(context(), pool, 6))) == {"b"} and over.is_over
    again = Mix(on_exhausted="cycle")
    assert set(set_names(pool, again.draw(context(), pool, 9))) == {"b"} and not again.is_over
    with pytest.raises(TrainingError, match="none of the sets a has a prompt"):
        Mix(weights={"a": 1, "b": 0}).draw(context(), pool, 1)


sets = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 6), min_size=1)


@pytest.mark.proves("sampler.mix", "law")
@given(sets, st.data())
def test_laws_of_the_mix(sizes, data):
    weights = {name: data.draw(st.floats(0.1, 5)) for name in sizes}
    how, nums = data.draw(st.sampled_from(["stop", "cycle"])), data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    pool = pool_of_sets(sizes)
    runs = []
    for _ in range(2):
        mix = Mix(weights=weights, on_exhausted=how)
        runs.append([place for step, num in enumerate(nums) for place in mix.draw(context(step), pool, num)])
    found = runs[0]
    assert found == runs[1] and len(found) == sum(nums)
    # inside a set, no prompt comes a second time before all of it came
    for name, size in sizes.items():
        own = [place for place in found if pool.samples[place].source == name]
        for start in range(0, len(own), size):
            assert len(set(own[start : start + size])) == len(own[start : start + size])
    if not mix.is_over:
        assert how == "cycle" or len(set(found)) == len(found)


@pytest.mark.proves("sampler.mix", "resume")
@pytest.mark.proves("sampler.difficulty_pool", "resume")
def test_resumed_draws_equal_uninterrupted_ones():
    def pool():
        return pool_of_sets({"a": 7, "b": 3, "c": 5}, field="meta.level")

    assert resumes(lambda: Mix(by="meta.level", on_exhausted="cycle"), POLICY, pool=pool)
    assert resumes(lambda: DifficultyPool({"a": 1, "b": 2, "c": 0.7}, by="meta.level"), POLICY, pool=pool)
    assert resumes(lambda: DifficultyPool({"easy": 1, "medium": 2, "hard": 1}, by="latest"), POLICY, pool=pool)
    # and it is not the same draw over and over
    assert len({str(step) for step in simulate(Mix(by="meta.level", on_exhausted="cycle"), pool(), POLICY, steps=6, num=5)}) == 6


@pytest.mark.proves("sampler.difficulty_pool", "table")
def test_shares_are_exact_and_interleaved():
    # shares .5 .25 .25: credits (.5 .25 .25) easy -> (-.5 .25 .25); (0 .5 .5) medium; (.5 -.25 .75) hard; (1 0 0) easy; and again
    pool = pool_of_sets({"easy": 9, "medium": 9, "hard": 9}, field="meta.level")
    found = DifficultyPool({"easy": 2, "medium": 1, "hard": 1}, by="meta.level").draw(context(), pool, 8)
    assert set_names(pool, found) == ["easy", "medium", "hard", "easy"] * 2


@pytest.mark.proves("sampler.difficulty_pool", "table")
def test_tiers_of_measured_rates():
    # MMedAgent-RL: 1 easy, between medium, 0 hard; nothing known: medium
    pool = pool_of_sets({"a": 5}, offline={"a-0": 1.0, "a-1": 0.5, "a-2": 0.0, "a-3": 0.99})
    one = DifficultyPool({"easy": 1, "medium": 0, "hard": 0})
    assert set(one.draw(context(), pool, 3)) == {0}
    assert set(DifficultyPool({"easy": 0, "medium": 1, "hard": 0}).draw(context(), pool, 3)) == {1, 3, 4}
    assert set(DifficultyPool({"easy": 0, "medium": 0, "hard": 1}, unknown="hard").draw(context(), pool, 2)) == {2, 4}
    assert set(DifficultyPool({"easy": 1, "medium": 0, "hard": 0}, easy_from=0.9).draw(context(), pool, 2)) == {0, 3}
    with pytest.raises(DataError, match="no prompt has a pass rate"):
        DifficultyPool({"easy": 1, "medium": 1, "hard": 1}).draw(context(), pool_of_sets({"a": 2}), 1)


@pytest.mark.proves("sampler.difficulty_pool", "law")
@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 3)
)
def test_counts_never_leave_their_shares_by_two(shares, nums, seed):
    names = ("easy", "medium", "hard")
    pool = pool_of_sets(dict.fromkeys(names, 4), field="meta.level")
    sampler, found = DifficultyPool(dict(zip(names, shares, strict=True)), by="meta.level"), []
    for step, num in enumerate(nums):
        found += set_names(pool, sampler.draw(context(step, seed=seed), pool, num))
        for name, share in zip(names, shares, strict=True):
            assert abs(found.count(name) - len(found) * share / sum(shares)) < 2


@pytest.mark.proves("sampler.difficulty_pool", "run")
def test_shares_hold_while_a_policy_moves_prompts_between_tiers():
    # by=latest: a prompt that was solved is easy from then on; wanted half medium, half hard
    pool = pool_of_sets({"p": 30}, offline={f"p-{i}": 0.0 for i in range(15)})
    policy = FakePolicy(lambda one, step: 0.5 if int(one.id[2:]) % 2 else 0.0)
    sampler = DifficultyPool({"easy": 0, "medium": 1, "hard": 1}, by="latest")
    history = simulate(sampler, pool, policy, steps=30, num=4)
    # from the second pass on, odd prompts are medium and even ones hard: two of each in every step
    assert all(sum(place % 2 for place in places) == 2 for places in history[-10:])


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"a": 1, "bb": 1}, r"weights.bb: the pool has no such set.*It has: a, b\."), ({"a": 1}, "says nothing of b")],
)
def test_weights_and_sets_must_match(weights, message):
    with pytest.raises(ConfigError, match=message):
        Mix(weights=weights).draw(context(), pool_of_sets({"a": 2, "b": 2}), 1)


def test_a_field_that_no_sample_has_is_named():
    with pytest.raises(DataError, match=r"meta.grade, but no sample has that field. They have: level"):
        DifficultyPool({"a": 1}, by="meta.grade").draw(context(), pool_of_sets({"a": 2}, field="meta.level"), 1)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("mix", {"by": "colour"}, "by must be one of: source, task, meta.KEY"),
        ("mix", {"by": "meta."}, "by must be one of"),
        ("mix", {"on_exhausted": "weep"}, "stop or cycle"),
        ("mix", {"weights": {"a": 0.0}}, "at least one above 0"),
        ("mix", {"weights": {"a": -1.0, "b": 2.0}}, "must be 0 or more"),
        ("difficulty_pool", {}, "needs shares"),
        ("difficulty_pool", {"shares": {"easy": 1}, "easy_from": 0.2, "hard_to": 0.3}, "hard_to < easy_from"),
    ],
)
def test_bad_settings_are_refused(name, values, message):
    with pytest.raises(ConfigError, match=message):
        make("sampler", name, values)
