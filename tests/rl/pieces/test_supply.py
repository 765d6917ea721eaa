"""How many prompts are drawn and which groups are kept: tables, laws, and a policy whose pass rates are numbers."""

import random

import pytest
from fake_policy import FakePolicy, group_of, sample
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError, TrainingError
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.supply import Fixed, Oversample, Refill, collect, next_draw


class Source:
    """Draws p0, p1 … and answers with a list of numbers of right rollouts of 4, over and over."""

    def __init__(self, rights):
        self.rights, self.asked, self.rounds, self.given = rights, [], [], 0

    def draw(self, num):
        self.asked.append(num)
        found = [sample(f"p{self.given + i}") for i in range(num)]
        self.given += num
        return found

    def roll_out(self, samples, round_number):
        self.rounds.append(round_number)
        return [group_of(one, self.rights[int(one.id[1:]) % len(self.rights)], 4) for one in samples]

    def collect(self, supply, wanted):
        return collect(supply, wanted, self.draw, self.roll_out)


def names(groups):
    return [group.sample.id for group in groups]


@pytest.mark.proves("supply.fixed", "table")
def test_fixed_draws_once_and_keeps_all_or_only_what_differs():
    source = Source([0, 2, 4])
    found = source.collect(Fixed(), 6)
    assert source.asked == [6] and names(found.kept) == [f"p{i}" for i in range(6)] and not found.is_spent
    found = Source([0, 2, 4]).collect(Fixed(drop_equal=True), 6)
    # 0 and 4 of 4 right are groups of equals; p1 and p4 differ
    assert names(found.kept) == ["p1", "p4"] and len(found.drawn) == 6 and found.num_refills == 0 and found.is_spent


@pytest.mark.proves("supply.refill", "table")
def test_refill_asks_for_what_is_missing_over_the_share_that_was_useful():
    # wanted 4; groups 0 2 4 0 | 2 4 0 2 | 4 0 2 4: round 0 gives p1 of 4: missing 3, share 1/4, 3/(1/4)=12, at most 4
    # round 1 (p4..p7): p4 p7, now 3 of 8: missing 1, share 3/8, ceil(8/3) = 3; round 2 (p8 p9 p10): p10 -> 4
    source = Source([0, 2, 4])
    found = source.collect(Refill(), 4)
    assert source.asked == [4, 4, 3] and source.rounds == [0, 1, 2]
    assert (
        names(found.kept) == ["p1", "p4", "p7", "p10"]
        and len(found.drawn) == 11
        and found.num_refills == 2
        and not found.is_spent
    )


@pytest.mark.proves("supply.refill", "table")
def test_a_spent_budget_does_what_it_was_told():
    source = Source([0, 4])
    with pytest.raises(TrainingError, match=r"0 of 3 groups.*12 prompts.*3 refills, max_refills=3"):
        source.collect(Refill(max_refills=3), 3)
    assert source.asked == [3, 3, 3, 3]
    for word in ("train_smaller", "stop"):
        found = Source([0, 4, 4, 2]).collect(Refill(max_refills=1, on_spent=word), 4)
        assert found.is_spent and names(found.kept) == ["p3", "p7"] and found.num_refills == 1


@pytest.mark.proves("supply.oversample", "table")
@pytest.mark.parametrize(
    ("factor", "wanted", "size"), [(2.0, 16, 32), (1.5, 3, 5), (1.0, 7, 7), (2.0000000001, 16, 32), (1.2, 10, 12)]
)
def test_oversample_draws_so_many_times_as_many(factor, wanted, size):
    assert Oversample(factor).first_draw(wanted) == size


@pytest.mark.proves("supply.oversample", "table")
def test_oversample_keeps_the_first_useful_ones_and_never_refills():
    source = Source([2, 0])
    found = source.collect(Oversample(3.0), 2)
    assert source.asked == [6] and names(found.kept) == ["p0", "p2"] and not found.is_spent
    found = Source([0, 0, 2]).collect(Oversample(1.5), 4)
    assert names(found.kept) == ["p2", "p5"] and found.is_spent and found.num_refills == 0


supplies = st.sampled_from(
    [Fixed(), Fixed(drop_equal=True), Refill(max_refills=4, on_spent="stop"), Oversample(1.5), Oversample(3.0)]
)


@pytest.mark.proves("supply.fixed", "law")
@pytest.mark.proves("supply.refill", "law")
@pytest.mark.proves("supply.oversample", "law")
@given(supplies, st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(1, 9))
def test_laws_of_every_supply(supply, rights, wanted):
    source = Source(rights)
    found = source.collect(supply, wanted)
    assert len(found.kept) <= wanted and len(source.asked) <= 1 + supply.max_refills
    # what is kept was drawn, in the order of drawing, each once, and differs where that is asked for
    order = [id(group) for group in found.drawn]
    places = [order.index(id(group)) for group in found.kept]
    assert places == sorted(set(places)) and len(found.drawn) == sum(source.asked)
    assert not supply.drop_equal or all(has_spread(group.values()) for group in found.kept)
    assert found.is_spent == (len(found.kept) < wanted)
    assert max(source.asked[1:], default=0) <= source.asked[0]
    # no useful group is thrown away while the step is short
    useful = [group for group in found.drawn if not supply.drop_equal or has_spread(group.values())]
    assert len(found.kept) == min(len(useful), wanted)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 64), st.integers(1, 256))
def test_a_refill_is_between_one_and_a_first_draw_and_shrinks_with_the_share(first, missing, useful, drawn):
    useful = min(useful, drawn)
    size = next_draw(first, missing, useful, drawn)
    assert 1 <= size <= first and next_draw(first, missing, drawn, drawn) <= size


@pytest.mark.proves("supply.refill", "run")
def test_refill_against_a_policy_of_known_rates_draws_what_the_rates_predict():
    # A coin of pass rate .5 in a group of 4 differs with 1 - 2 * .5^4 = .875; one of .02 with 1 - .98^4 - .02^4 = .0776
    policy, rng = FakePolicy(lambda one, step: 0.5 if one.id.endswith("e") else 0.02, size=4, seed=0), random.Random(1)
    drawn = 0
    for _ in range(200):

        def draw(num):
            return [sample(f"x{rng.choice('eh')}") for _ in range(num)]

        found = collect(Refill(max_refills=50), 8, draw, lambda samples, number: policy.groups(samples))
        assert len(found.kept) == 8
        drawn += len(found.drawn)
    # half of either sort: a useful share of (.875 + .0776) / 2 = .476, so about 8 / .476 = 16.8 prompts a step, plus rounding up
    assert 16.0 < drawn / 200 < 19.5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("refill", {"max_refills": 0}, "max_refills must be 1"),
        ("refill", {"on_spent": "weep"}, "on_spent='weep' is not known"),
        ("oversample", {"factor": 0.5}, "factor must be 1"),
        ("oversample", {"on_spent": "weep"}, "not known"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        make("supply", name, settings)
