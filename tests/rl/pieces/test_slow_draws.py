"""Samplers, pools, supplies and clocks against slow references: the exact draw sequence, from the formulas and the step's generator.

A weighted choice is the first name at which the running sum of weights passes `u * total`; a set deals its least drawn prompt,
equals by the random ticket they hold. Both are written here as loops; rates are fractions of whole counts.
"""

import math
from fractions import Fraction
from hashlib import sha256
from random import Random

import numpy as np
import pytest
from fake_policy import context, group_of, pool_of, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.stages.rl.pieces.arpo import DropEqual
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.oreal import OrealPair
from factory.stages.rl.pieces.overlong import OverlongFilter
from factory.stages.rl.pieces.rlcs import Expansion
from factory.stages.rl.pieces.supply import collect
from factory.stages.rl.pool import PromptPool

SIZE, NUM, STEPS = 9, 4, 4
quick = settings(max_examples=25, deadline=None)
rights = st.lists(st.integers(0, 4), min_size=SIZE, max_size=SIZE)
"""Per prompt, how many of its four rollouts are right."""


def generator(seed, purpose, step):
    """The step's random numbers: the first 62 bits of the hash of seed/purpose/step."""
    return Random(int(sha256(f"{seed}/{purpose}/{step}".encode()).hexdigest()[:16], 16) // 4)


def pick(rng, weights):
    """By the inverse of the cumulative distribution, name by name."""
    u, passed = rng.random() * sum(weights.values()), 0.0
    for name, weight in weights.items():
        passed += weight
        if u < passed:
            return name
    return name


class SlowDecks:
    """Sets of prompts dealt one by one."""

    def __init__(self):
        self.times = {}

    def deal(self, seed, step, sets, choose, num):
        rng = generator(seed, f"deal-{sum(self.times.values())}", step)
        sets = {name: list(places) for name, places in sets.items() if places}
        ticket = {place: rng.random() for places in sets.values() for place in places}
        found = []
        for _ in range(num):
            name = choose(rng, sets)
            place = min(sets[name], key=lambda place: (self.times.get(place, 0), ticket[place]))
            ticket[place], self.times[place] = rng.random(), self.times.get(place, 0) + 1
            found.append(place)
        return found


def tiers(solved, size=4):
    """B3.8: easy s = 1, medium 0 < s < 1, hard s = 0."""
    found = {"easy": [], "medium": [], "hard": []}
    for place, right in enumerate(solved):
        found["easy" if right == size else "hard" if right == 0 else "medium"].append(place)
    return {name: places for name, places in found.items() if places}


def offline(solved):
    return {f"p{place:03d}": right / 4 for place, right in enumerate(solved)}


def played(sampler, pool, solved, seed, learns=True):
    """The sampler's draws over a short run in which each prompt is answered as `solved` says."""
    history = []
    for step in range(STEPS):
        ctx = context(step, STEPS, seed)
        history.append(sampler.draw(ctx, pool, NUM))
        groups = [group_of(pool.samples[place], solved[place], 4) for place in dict.fromkeys(history[-1])]
        if learns:
            pool.observe(step, groups)
        if hasattr(sampler, "observe"):
            sampler.observe(ctx, groups)
    return history


@pytest.mark.proves("sampler.shuffled", "float64")
@quick
@given(st.integers(0, 99))
def test_shuffled(seed):
    stream = []
    for number in range(3):
        rng, order = Random(f"{seed}-prompts-{number}"), list(range(SIZE))
        for last in range(SIZE - 1, 0, -1):  # Fisher and Yates
            other = rng.randrange(last + 1)
            order[last], order[other] = order[other], order[last]
        stream += order
    found = played(make("sampler", "shuffled", {}), pool_of(SIZE), [2] * SIZE, seed)
    assert [place for places in found for place in places] == stream[: NUM * STEPS]


def by_clocks(seed, step, weights, num):
    """Exponential clocks: the place of weight w rings at -log(1 - u) / w; the first `num` rings, in order."""
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1.0)
    found = []
    while len(found) < num:
        rng = generator(seed, f"by-weight-{len(found)}", step)
        left = {
            place: w for place, w in weights.items() if found.count(place) == min(found.count(p) for p in weights if weights[p])
        }
        rings = [(-np.log(1.0 - rng.random()) / weight, place) for place, weight in left.items() if weight > 0]
        found += [place for _, place in sorted(rings)[: num - len(found)]]
    return found


@pytest.mark.proves("sampler.kimi_priority", "float64")
@quick
@given(rights, rights, st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
def test_kimi_priority(labels, solved, seed, opening):
    found = played(make("sampler", "kimi_priority", {"opening": opening}), pool_of(SIZE, offline=offline(labels)), solved, seed)
    latest, easiest = list(labels), sorted(range(SIZE), key=lambda place: (-labels[place], place))
    for step in range(STEPS):
        # B9.2: P ~ 1 - success rate; the pool opens from easy to hard over the share `opening` of the run.
        num_open = (
            SIZE if Fraction(step, STEPS) >= opening else max(NUM, math.ceil(Fraction(step, STEPS) / Fraction(opening) * SIZE))
        )
        opened = sorted(easiest[:num_open])
        expected = by_clocks(seed, step, {place: 1.0 - latest[place] / 4.0 for place in opened}, NUM)
        assert found[step] == expected
        for place in expected:
            latest[place] = solved[place]


def spread(right):
    """Standard deviation of four rewards of 0 and 1: sqrt(p (1 - p))."""
    return math.sqrt(right * (4 - right)) / 4


def most_undecided(measured, q):
    """B9.5: std >= the q-quantile of the measured ones; those without spread never."""
    cut = np.quantile(np.array([spread(right) for right in measured.values()], np.float64), q) if measured else 0.0
    return {place: spread(right) for place, right in measured.items() if spread(right) >= cut - 1e-9 and 0 < right < 4}


@pytest.mark.proves("sampler.variance", "float64")
@quick
@given(rights, st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.5, 0.8]))
def test_variance(solved, seed, q):
    found, measured = played(make("sampler", "variance", {"q": q}), pool_of(SIZE), solved, seed), {}
    for step in range(STEPS):
        kept = most_undecided(measured, q)
        unknown = max(kept.values(), default=1.0)
        weights = {place: kept.get(place, 0.0) if place in measured else unknown for place in range(SIZE)}
        assert found[step] == by_clocks(seed, step, weights, NUM)
        measured |= {place: solved[place] for place in found[step]}


@pytest.mark.proves("sampler.curriculum", "float64")
@quick
@given(rights, st.integers(0, 99), st.booleans(), st.sampled_from([(), (1, 2, 4), (2, 3, 4)]))
def test_curriculum(labels, seed, keep_earlier, quarters):
    values = {"keep_earlier": keep_earlier, "ends": [quarter / 4 for quarter in quarters]}
    found = played(make("sampler", "curriculum", values), pool_of(SIZE, offline=offline(labels)), labels, seed)
    order, sets, decks = ["easy", "medium", "hard"], tiers(labels), SlowDecks()
    for step in range(STEPS):
        passed = [
            Fraction(step, STEPS) >= Fraction(end)
            for end in ([Fraction(q, 4) for q in quarters] or [Fraction(1, 3), Fraction(2, 3), 1])
        ]
        stage = sum(passed[:2])
        wanted = [name for name in (order[: stage + 1] if keep_earlier else [order[stage]]) if name in sets]
        if not wanted:  # the nearest tier that has prompts, the harder one first
            wanted = [
                order[k] for distance in (1, 2) for k in (stage + distance, stage - distance) if 0 <= k < 3 and order[k] in sets
            ][:1]
        chances = {name: float(len(sets[name])) for name in wanted}
        dealt = {name: sets[name] for name in wanted}
        assert found[step] == decks.deal(seed, step, dealt, lambda rng, left, chances=chances: pick(rng, chances), NUM)


@pytest.mark.proves("sampler.difficulty_pool", "float64")
@quick
@given(rights, st.integers(0, 99), st.tuples(*[st.integers(1, 4)] * 3))
def test_difficulty_pool(labels, seed, shares):
    shares = dict(zip(["easy", "medium", "hard"], shares, strict=True))
    found = played(make("sampler", "difficulty_pool", {"shares": shares}), pool_of(SIZE, offline=offline(labels)), labels, seed)
    decks, sets = SlowDecks(), tiers(labels)
    owed = dict.fromkeys(sets, Fraction(0))

    def choose(rng, left):
        for name in left:
            owed[name] += Fraction(shares[name], sum(shares[other] for other in left))
        name = next(name for name in left if owed[name] == max(owed[other] for other in left))
        owed[name] -= 1
        return name

    assert found == [decks.deal(seed, step, sets, choose, NUM) for step in range(STEPS)]


@pytest.mark.proves("sampler.rlcs", "float64")
@quick
@given(rights, rights, st.integers(0, 99), st.sampled_from([0.0, 0.5, 0.9]))
def test_rlcs(labels, solved, seed, decay):
    found = played(make("sampler", "rlcs", {"decay": decay}), pool_of(SIZE, offline=offline(labels)), solved, seed)
    decks, sets = SlowDecks(), tiers(labels)
    rate = {name: np.mean([labels[place] / 4 for place in places]) for name, places in sets.items()}
    for step in range(STEPS):
        # B9.1: tiers re-weighted so that mid difficulty dominates; the bell of width 1/4 at 1/2 is the piece's own.
        weights = {name: len(places) * np.exp(-8.0 * (rate[name] - 0.5) ** 2) for name, places in sets.items()}
        assert found[step] == decks.deal(seed, step, sets, lambda rng, left, weights=weights: pick(rng, weights), NUM)
        for name, places in sets.items():
            seen = [solved[place] / 4 for place in set(found[step]) & set(places)]
            if seen:
                rate[name] = rate[name] + (1 - decay) * (np.mean(seen) - rate[name])


@pytest.mark.proves("sampler.mix", "float64")
@quick
@given(st.integers(0, 99), st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from(["stop", "cycle"]))
def test_mix(seed, weights, on_exhausted):
    pool = PromptPool([sample(f"p{i}", source="abc"[i % 3]) for i in range(SIZE)])
    weights = dict(zip("abc", map(float, weights), strict=True))
    sampler, decks, is_over = make("sampler", "mix", {"weights": weights, "on_exhausted": on_exhausted}), SlowDecks(), False

    def choose(rng, left):
        # B9.6: the set by w, then an unseen sample; when a set is exhausted the stage stops (its step is filled from the others).
        nonlocal is_over
        name = pick(rng, weights)
        unseen = {n: weights[n] for n in left if any(place not in decks.times for place in left[n])}
        if on_exhausted == "cycle" or name in unseen:
            return name
        is_over = True
        return pick(rng, unseen or weights)

    sets = {name: [place for place in range(SIZE) if "abc"[place % 3] == name] for name in "abc"}
    for step in range(STEPS):
        assert sampler.draw(context(step, STEPS, seed), pool, NUM) == decks.deal(seed, step, sets, choose, NUM)
        assert sampler.is_over == is_over


histories = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=6)


def watched(name, values, histories, **settings_):
    """Which prompts the pool piece keeps after each prompt's groups (numbers right of four)."""
    piece = make("pool", name, values)
    watchers = [piece.look] if hasattr(piece, "look") else []
    pool = pool_of(len(histories), keeps=[piece.keeps], watchers=watchers, **settings_)
    for place, history in enumerate(histories):
        for step, right in enumerate(history):
            pool.observe(step, [group_of(pool.samples[place], right, 4)])
    return [place for place in range(len(histories)) if pool.eligible(place)]


@pytest.mark.proves("pool.retire_solved", "float64")
@pytest.mark.proves("pool.window", "float64")
@pytest.mark.proves("pool.variance_top", "float64")
@quick
@given(histories, st.integers(1, 3), st.sampled_from([0.0, 0.25, 0.5, 0.75]), st.integers(1, 4))
def test_pools(histories, times, q, top):
    retired = [h[-times:] == [4] * times for h in histories]
    assert watched("retire_solved", {"times": times}, histories) == [i for i, gone in enumerate(retired) if not gone]
    inside = [not h or 0 < Fraction(h[-1], 4) < 1 for h in histories]
    assert watched("window", {}, histories) == [i for i, kept in enumerate(inside) if kept]
    measured = {place: h[-1] for place, h in enumerate(histories) if h}
    kept = most_undecided(measured, q)
    assert watched("variance_top", {"q": q}, histories) == [i for i, h in enumerate(histories) if not h or i in kept]
    best = sorted(measured, key=lambda place: (-spread(measured[place]), place))[:top]
    expected = [i for i, h in enumerate(histories) if not h or (i in best and 0 < h[-1] < 4)]
    assert watched("variance_top", {"top": top}, histories) == expected


@pytest.mark.proves("pool.rap", "float64")
@quick
@given(
    st.integers(1, 16).flatmap(
        lambda m: st.tuples(st.just(m), st.lists(st.tuples(st.integers(0, m), st.integers(0, m)), min_size=1))
    )
)
def test_rap(made):
    from factory.stages.select.need import rap_d

    num, counts = made
    scores = {f"p{i:03d}": rap_d(seeing / num, blind / num) for i, (seeing, blind) in enumerate(counts)}
    # B9.3: D = (#right with - #right without) / M, keep D >= 1/2.
    np.testing.assert_allclose(list(scores.values()), [(seeing - blind) / num for seeing, blind in counts], rtol=1e-9, atol=1e-12)
    expected = [i for i, (seeing, blind) in enumerate(counts) if 2 * (seeing - blind) >= num]
    assert watched("rap", {}, [[]] * len(counts), rap_ds=scores) == expected


def answered(counts):
    return [group_of(sample(f"g{i}"), right, 4) for i, right in enumerate(counts)]


@pytest.mark.proves("supply.expansion", "float64")
@quick
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), max_size=5),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.integers(1, 16),
)
def test_expansion(steps, decay, wanted):
    piece, average = Expansion(decay=decay), None
    for counts in steps:
        piece.observe(context(), answered(counts))
        invalid = np.float64(sum(right in (0, 4) for right in counts)) / len(counts)
        average = invalid if average is None else decay * average + (1 - decay) * invalid
    # B9.1: 1 / (1 - EMA(invalid)), here at most 4.
    expected = 1.0 if average is None else 4.0 if average >= 0.75 else 1 / (1 - average)
    np.testing.assert_allclose(piece.expansion, expected, rtol=1e-9)
    assert piece.first_draw(wanted) == math.ceil(round(expected * wanted, 6))
    useful = [right for counts in steps for right in counts if 0 < right < 4]
    best = sorted(sorted(range(len(useful)), key=lambda i: (abs(useful[i] - 2), i))[:wanted])
    assert [group.sample.id for group in piece.choose(answered(useful), wanted)] == [f"g{i}" for i in best]


@pytest.mark.proves("supply.fixed", "float64")
@pytest.mark.proves("supply.refill", "float64")
@pytest.mark.proves("supply.oversample", "float64")
@quick
@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.integers(1, 5), st.integers(1, 4), st.integers(4, 12))
def test_supplies(rights_, wanted, refills, quarters):
    for name, values in (
        ("fixed", {}), ("refill", {"max_refills": refills, "on_spent": "train_smaller"}), ("oversample", {"factor": quarters / 4}),
    ):  # fmt: skip
        given_, asked = [0], []

        def draw(num, given_=given_, asked=asked):
            asked.append(num)
            given_[0] += num
            return [sample(f"p{i}") for i in range(given_[0] - num, given_[0])]

        found = collect(
            make("supply", name, values), wanted, draw,
            lambda samples, _: [group_of(one, rights_[int(one.id[1:]) % len(rights_)], 4) for one in samples],
        )  # fmt: skip
        # DAPO sec. 3.2: the first B groups with 0 < #right < G among all that were drawn.
        stream = [i for i in range(sum(asked)) if name == "fixed" or 0 < rights_[i % len(rights_)] < 4]
        assert [group.sample.id for group in found.kept] == [f"p{i}" for i in stream[:wanted]]
        sizes = [math.ceil(Fraction(quarters, 4) * wanted) if name == "oversample" else wanted]
        while name == "refill" and len(sizes) <= refills:
            drawn = sum(sizes)
            useful = sum(0 < rights_[i % len(rights_)] < 4 for i in range(drawn))
            if useful >= wanted:
                break
            sizes.append(min(wanted, math.ceil((wanted - useful) / max(Fraction(useful, drawn), Fraction(1, wanted)))))
        assert asked == sizes and found.num_refills == len(sizes) - 1


@pytest.mark.proves("resample.drop_equal", "float64")
@pytest.mark.proves("resample.oreal_pair", "float64")
@pytest.mark.proves("resample.overlong_filter", "float64")
@quick
@given(st.lists(st.integers(0, 4), max_size=5), st.integers(0, 15), st.integers(0, 99))
def test_filters(counts, cut, seed):
    groups, mixed = answered(counts), [i for i, right in enumerate(counts) if 0 < right < 4]
    assert [group.sample.id for group in DropEqual().apply(context(), groups)] == [f"g{i}" for i in mixed]
    pairs = []
    for i in mixed:  # B1.10: one right and one wrong of each group that has both; the first `right` ones are right
        rng = generator(seed, f"resample.oreal_pair/g{i}", 3)
        pairs.append([rng.randrange(counts[i]), counts[i] + rng.randrange(4 - counts[i])])
    found = OrealPair().apply(context(3, seed=seed), groups)
    assert [[rollout.index for rollout in group.rollouts] for group in found] == pairs
    for group in groups:
        for rollout in group.rollouts:
            rollout.finished = not cut >> rollout.index & 1
    left = [[i for i in range(4) if not cut >> i & 1]] * len(groups)
    assert [[rollout.index for rollout in group.rollouts] for group in OverlongFilter().apply(context(), groups)] == left


@pytest.mark.proves("clock.ptst", "float64")
@quick
@given(
    st.integers(1, 60).flatmap(lambda total: st.tuples(st.integers(0, total - 1), st.just(total))),
    st.integers(1, 16),
    st.integers(1, 8),
)
def test_ptst(at, length, group):
    (step, total), stage = at, 0
    while stage < 2 and 3 * step >= (stage + 1) * total:
        stage += 1
    # B9.7: 4K x 16, 8K x 8, 16K x 4 of limits 16K and 16.
    ctx = context(step, total, max_new_tokens=1024 * length, group_size=4 * group)
    assert make("clock", "ptst", {}).limits(ctx) == (256 * length * 2**stage, 4 * group // 2**stage)


def test_the_references_would_notice_another_formula():
    weights = {place: 1.0 - place / SIZE for place in range(SIZE)}
    ours = [by_clocks(seed, 0, weights, NUM) for seed in range(20)]
    assert ours != [by_clocks(seed, 0, dict.fromkeys(weights, 1.0), NUM) for seed in range(20)]
    assert [pick(Random(1), {"a": 1.0, "b": b}) for b in (0.0, 99.0)] == ["a", "b"]
    assert most_undecided({0: 1, 1: 2}, 0.9) != most_undecided({0: 1, 1: 2}, 0.0)
