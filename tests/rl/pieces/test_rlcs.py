"""RLCS: tiers by how undecided the policy is on them, and expansion in place of refills."""

import math
from collections import Counter

import pytest
from fake_policy import FakePolicy, context, group_of, pool_of, resumes, sample, simulate
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError, TrainingError
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.rlcs import Expansion, Rlcs, averaged
from factory.stages.rl.pieces.supply import collect
from factory.stages.rl.pool import PromptPool


def groups_with(invalid, of=4):
    """So many groups of equals among `of`."""
    return [group_of(sample(f"g{i}"), 0 if i < invalid else 2, 4) for i in range(of)]


@pytest.mark.proves("supply.expansion", "vector")
@pytest.mark.parametrize(("invalid", "expansion"), [(0, 1.0), (2, 2.0), (3, 4.0)])
def test_expansion_of_the_invalid_share(invalid, expansion):
    # guides B15: invalid 0, .5, .75 -> 1, 2, 4
    piece = Expansion(decay=0.0, cap=100.0)
    assert piece.expansion == 1.0
    piece.observe(context(), groups_with(invalid))
    assert piece.expansion == expansion and piece.first_draw(16) == 16 * expansion


@pytest.mark.proves("supply.expansion", "table")
def test_the_average_and_the_cap_by_hand():
    # decay .8: first share .5 as it is; then .8 * .5 + .2 * 1 = .6 -> 2.5; then .8 * .6 + .2 * 1 = .68 -> 3.125, cap 3
    piece = Expansion(decay=0.8, cap=3.0)
    piece.observe(context(), groups_with(2))
    piece.observe(context(), groups_with(4))
    assert piece.expansion == pytest.approx(2.5) and piece.first_draw(10) == 25
    piece.observe(context(), groups_with(4))
    assert piece.expansion == 3.0 and piece.first_draw(10) == 30 == piece.largest_draw(10)
    for _ in range(80):
        piece.observe(context(), groups_with(4))
    assert piece.expansion == 3.0, "an average of 1 divides by nothing"


def test_groups_of_masked_rollouts_are_not_counted():
    piece = Expansion(decay=0.5)
    masked = groups_with(4)
    for group in masked:
        for rollout in group.rollouts[1:]:
            rollout.reward = None
    piece.observe(context(), masked)
    assert piece.expansion == 1.0
    ctx = context()
    piece.observe(ctx, masked[:3] + groups_with(1, 2))
    assert ctx.metrics["expansion"] == piece.expansion == 2.0


@pytest.mark.proves("supply.expansion", "table")
def test_the_most_balanced_groups_are_kept_in_the_order_they_were_drawn():
    # right of 8: 1, 4, 7, 3, 5; p(1-p) * 64: 7, 16, 7, 15, 15 -> the best three are 4, 3 and 5; of the equal 1 and 7 the first
    groups = [group_of(sample(f"g{right}"), right, 8) for right in (1, 4, 7, 3, 5)]

    def kept(num):
        return [group.sample.id for group in Expansion(decay=0.5).choose(groups, num)]

    assert kept(3) == ["g4", "g3", "g5"] and kept(4) == ["g1", "g4", "g3", "g5"] and kept(9) == ["g1", "g4", "g7", "g3", "g5"]


@pytest.mark.proves("supply.expansion", "law")
@given(st.lists(st.integers(0, 6), max_size=12), st.floats(0, 0.99), st.floats(1, 8), st.integers(1, 64))
def test_laws_of_expansion(history, decay, cap, wanted):
    piece = Expansion(decay=decay, cap=cap)
    for invalid in history:
        piece.observe(context(), groups_with(min(invalid, 4)))
        assert 1.0 <= piece.expansion <= cap
        assert wanted <= piece.first_draw(wanted) <= piece.largest_draw(wanted) <= math.ceil(cap * wanted)
    before = piece.expansion
    piece.observe(context(), groups_with(4))
    assert piece.expansion >= before - 1e-12, "more waste never draws less"


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.integers(1, 12), st.randoms())
def test_what_is_kept_does_not_depend_on_the_order_of_unequal_groups(rights, wanted, rng):
    groups = [group_of(sample(f"g{right}"), right, 8) for right in dict.fromkeys(min(right, 4) for right in rights)]
    kept = {group.sample.id for group in Expansion(decay=0).choose(groups, wanted)}
    rng.shuffle(groups)
    assert kept == {group.sample.id for group in Expansion(decay=0).choose(groups, wanted)}


@pytest.mark.proves("supply.expansion", "resume")
def test_expansion_goes_on_from_its_state():
    piece, other = Expansion(decay=0.7), Expansion(decay=0.7)
    other.load_state_dict(piece.state_dict())
    assert other.expansion == 1.0
    for invalid in (1, 3):
        piece.observe(context(), groups_with(invalid))
    other.load_state_dict(piece.state_dict())
    for one in (piece, other):
        one.observe(context(), groups_with(2))
    assert piece.expansion == other.expansion > 1.5


@pytest.mark.proves("supply.expansion", "run")
def test_expansion_draws_what_a_policy_of_known_waste_needs():
    # 60 % of the prompts are hopeless, the others a coin in groups of 8, equal with 2 * .5^8 = .8 %: invalid .603, expansion 2.52
    policy = FakePolicy(lambda one, step: 0.5 if int(one.id[1:]) % 5 < 2 else 0.0, size=8, seed=3)
    supply, stream, sizes, kept = Expansion(decay=0.9, cap=10.0), iter(range(10**6)), [], []
    for step in range(200):
        found = collect(
            supply,
            16,
            lambda num: [sample(f"p{next(stream)}") for _ in range(num)],
            lambda samples, number: policy.groups(samples),
        )
        sizes.append(len(found.drawn))
        kept.append(len(found.kept))
        supply.observe(context(step), found.drawn)
    assert sizes[0] == 16 and 38 <= sum(sizes[-100:]) / 100 <= 43
    assert sum(kept[-100:]) / 100 > 15.0, "one shot nearly fills the step"


def test_a_step_that_is_still_too_small_does_what_it_was_told():
    def roll_out(samples, number):
        return [group_of(one, 0, 4) for one in samples]

    def draw(num):
        return [sample(f"p{i}") for i in range(num)]

    assert collect(Expansion(decay=0.5), 3, draw, roll_out).is_spent
    with pytest.raises(TrainingError, match="0 of 3 groups"):
        collect(Expansion(decay=0.5, on_spent="error"), 3, draw, roll_out)


def tiered_pool(sizes, **settings):
    return PromptPool([sample(f"{name}-{i}", level=name) for name, size in sizes.items() for i in range(size)], **settings)


@pytest.mark.proves("sampler.rlcs", "table")
def test_tiers_weigh_by_the_bell_and_by_their_size():
    # EMAs 1, .5, .25 at width .25: bell exp(-2), 1, exp(-.5) = .135335, 1, .606531; sizes 10, 10, 20: 1.35335, 10, 12.13061 of 23.48396
    sampler = Rlcs(decay=0.5, by="meta.level")
    assert [round(sampler.weight(rate), 6) for rate in (1, 0.5, 0.25, 0)] == [0.135335, 1.0, 0.606531, 0.135335]
    pool = tiered_pool({"easy": 10, "medium": 10, "hard": 20})
    sampler.load_state_dict({"times": [], "rates": {"easy": 1.0, "medium": 0.5, "hard": 0.25}})
    counts, num = Counter(), 6000
    ctx = context()
    for step in range(num):
        ctx = context(step, num)
        counts[pool.samples[sampler.draw(ctx, pool, 1)[0]].meta["level"]] += 1
    for name, share in {"easy": 0.057629, "medium": 0.425823, "hard": 0.516549}.items():
        assert ctx.metrics[f"rlcs_weight/{name}"] == pytest.approx(share, abs=1e-6)
        assert abs(counts[name] - num * share) < 4 * math.sqrt(num * share * (1 - share))


@pytest.mark.proves("sampler.rlcs", "table")
def test_the_average_rate_of_a_tier_by_hand():
    # starts from the mean offline rate (.25 + .75) / 2 = .5; the step's rates 1 and .5 of that tier: .8 * .5 + .2 * .75 = .55
    pool = PromptPool([sample(f"m-{i}") for i in range(2)], offline={"m-0": 0.25, "m-1": 0.75})
    sampler, ctx = Rlcs(decay=0.8), context()
    places = sampler.draw(ctx, pool, 2)
    sampler.observe(ctx, [group_of(pool.samples[place], num, 4) for place, num in zip(places, (4, 2), strict=True)])
    assert ctx.metrics["rlcs_rate/medium"] == pytest.approx(0.55)
    assert sampler.state_dict()["rates"] == {"medium": pytest.approx(0.55)}
    assert averaged(None, 0.3, 0.9) == 0.3


@pytest.mark.proves("sampler.rlcs", "law")
@given(st.floats(0, 0.99), st.floats(0.05, 1), st.sets(st.integers(0, 11), max_size=11), st.integers(0, 3))
def test_laws_of_rlcs(decay, width, gone, seed):
    policy = FakePolicy(lambda one, step: (int(one.id[1:]) + step) % 5 / 4, size=4)

    def run():
        pool = pool_of(12, keeps=[lambda stat: stat.place not in gone])
        sampler = Rlcs(decay=decay, width=width, by="latest")
        return simulate(sampler, pool, policy, steps=5, num=4, seed=seed), sampler

    (found, sampler), (again, _) = run(), run()
    assert found == again and not gone & {place for places in found for place in places}
    rates = sampler.state_dict()["rates"]
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert all(
        0 <= sampler.weight(rate) <= 1 and sampler.weight(rate) == pytest.approx(sampler.weight(1 - rate))
        for rate in rates.values()
    )


@pytest.mark.proves("sampler.rlcs", "resume")
def test_resumed_draws_equal_uninterrupted_ones():
    policy = FakePolicy(lambda one, step: (int(one.id[1:]) + step) % 5 / 4, size=4)
    for by in ("latest", "offline"):

        def pool():
            return pool_of(9, offline={f"p{i:03d}": i % 3 / 2 for i in range(9)})

        assert resumes(lambda by=by: Rlcs(decay=0.6, by=by), policy, pool=pool)


@pytest.mark.proves("sampler.rlcs", "run")
def test_emphasis_moves_to_harder_tiers_as_the_policy_learns():
    # the policy masters easy, then medium, then hard; each tier is drawn most while its rate is near one half
    start = {"easy": 0.5, "medium": 0.05, "hard": 0.0}
    reach = {"easy": 10, "medium": 40, "hard": 90}

    def rate(one, step):
        return min(1.0, max(start[one.meta["level"]], 0.5 + (step - reach[one.meta["level"]]) / 40))

    pool = tiered_pool({"easy": 40, "medium": 40, "hard": 40})
    history = simulate(Rlcs(decay=0.7, by="meta.level"), pool, FakePolicy(rate, size=20), steps=100, num=12)

    def most(first, last):
        counts = Counter(pool.samples[place].meta["level"] for places in history[first:last] for place in places)
        return counts.most_common(1)[0][0]

    assert (most(5, 20), most(40, 55), most(90, 100)) == ("easy", "medium", "hard")


@pytest.mark.parametrize(
    ("slot", "name", "values", "message"),
    [
        ("sampler", "rlcs", {}, "needs decay"),
        ("sampler", "rlcs", {"decay": 1.0}, r"decay must be in \[0, 1\)"),
        ("sampler", "rlcs", {"decay": 0.5, "width": 0.0}, "width must be above 0"),
        ("sampler", "rlcs", {"decay": 0.5, "by": "now"}, "by must be one of"),
        ("supply", "expansion", {}, "needs decay"),
        ("supply", "expansion", {"decay": 0.5, "cap": 0.5}, "cap must be 1"),
        ("supply", "expansion", {"decay": 0.5, "on_spent": "weep"}, "not known"),
    ],
)
def test_bad_settings_are_refused(slot, name, values, message):
    with pytest.raises(ConfigError, match=message):
        make(slot, name, values)
