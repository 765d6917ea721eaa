"""Pool pieces: who may still be drawn, and that a prompt of which nothing is known stays in."""

import math

import pytest
from fake_policy import FakePolicy, context, group_of, pool_of, sample, simulate
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError, DataError, TrainingError
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.eligible import NeedsImages, PassWindow, RetireSolved, VarianceTop, quantile, undecided
from factory.stages.rl.pieces.sampler import Shuffled
from factory.stages.rl.pool import PromptPool, PromptStat

rates = st.one_of(st.none(), st.integers(0, 8).map(lambda k: k / 8))


def pool_with(piece, num=4, **settings):
    watchers = [piece.look] if hasattr(piece, "look") else []
    return pool_of(num, keeps=[piece.keeps], watchers=watchers, **settings)


@pytest.mark.proves("pool.retire_solved", "table")
def test_a_prompt_is_retired_after_so_many_full_marks_in_a_row():
    pool = pool_with(RetireSolved(times=2))
    # right of 4 per draw: 4, 3, 4 -> streaks 1, 0, 1: still in; then 4 -> streak 2: out
    for step, num_right in enumerate((4, 3, 4)):
        pool.observe(step, [group_of(pool.samples[1], num_right, 4)])
        assert pool.eligible(1)
    pool.observe(3, [group_of(pool.samples[1], 4, 4)])
    assert pool.eligible_places() == [0, 2, 3] and pool.stats[1].solved_in_a_row == 2


@pytest.mark.proves("pool.retire_solved", "law")
@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 3))
def test_retired_is_exactly_a_run_of_full_marks_at_the_end(draws, times):
    pool = pool_with(RetireSolved(times=times), 1)
    for step, num_right in enumerate(draws):
        pool.observe(step, [group_of(pool.samples[0], num_right, 3)])
    assert pool.eligible(0) == (not (len(draws) >= times and all(right == 3 for right in draws[-times:])))


@pytest.mark.proves("pool.retire_solved", "resume")
def test_streaks_are_in_the_pools_state_and_masked_groups_do_not_break_them():
    pool = pool_with(RetireSolved(times=2), 2)
    pool.observe(0, [group_of(pool.samples[0], 3, 3)])
    masked = group_of(pool.samples[0], 0, 2)
    for rollout in masked.rollouts:
        rollout.reward = None
    pool.observe(1, [masked])
    other = pool_with(RetireSolved(times=2), 2)
    other.load_state_dict(pool.state_dict())
    other.observe(2, [group_of(other.samples[0], 3, 3)])
    assert not other.eligible(0) and other.eligible(1)


@pytest.mark.proves("pool.retire_solved", "run")
def test_a_policy_that_solves_everything_runs_out_of_prompts():
    pool = pool_with(RetireSolved(), 6)
    policy = FakePolicy(lambda one, step: 1.0 if one.id != "p005" or step > 5 else 0.0)
    simulate(Shuffled(), pool, policy, steps=4, num=2)
    # two a step, each solved at its first draw, but for p005
    assert set(pool.eligible_places()) == {5}
    simulate(Shuffled(), pool, policy, steps=1, num=1, first=6)
    with pytest.raises(TrainingError, match="none of the 6 prompts may be drawn any more"):
        pool.eligible_places()


@pytest.mark.proves("pool.window", "table")
def test_the_window_is_open_at_both_ends():
    # 0 < p < 1; a prompt without a rate stays; with rate=offline a later draw changes nothing
    keeps = [PassWindow().keeps(PromptStat(0, pass_rate=rate)) for rate in (None, 0.0, 0.25, 1.0)]
    assert keeps == [True, False, True, False]
    fixed = PassWindow(above=0.25, below=None, rate="offline")
    assert fixed.keeps(PromptStat(0, pass_rate=0.0, offline_rate=0.5)) and not fixed.keeps(
        PromptStat(0, pass_rate=0.9, offline_rate=0.25)
    )


@pytest.mark.proves("pool.window", "law")
@given(rates, st.floats(0, 0.9), st.floats(0.91, 1))
def test_a_wider_window_keeps_all_that_a_narrower_one_keeps(rate, low, high):
    stat = PromptStat(0, pass_rate=rate)
    narrow, wide = PassWindow(above=low, below=high), PassWindow(above=None, below=None)
    assert wide.keeps(stat) and narrow.keeps(stat) == (rate is None or low < rate < high)


@pytest.mark.proves("pool.variance_top", "table")
def test_the_largest_spreads_by_hand():
    # pass rates 0, .25, .5, .75, 1 of 0/1 rewards: std sqrt(p(1-p)) = 0, .433, .5, .433, 0; sorted 0 0 .433 .433 .5
    # q .75 lies at place .75 * 4 = 3: .433, so three prompts; q .5 at place 2: .433 too; q .9 at 3.6: .473, so one; the sixth is unknown
    stds = [math.sqrt(p * (1 - p)) for p in (0, 0.25, 0.5, 0.75, 1)]
    stats = [PromptStat(i, offline_std=std) for i, std in enumerate(stds)] + [PromptStat(5)]
    assert quantile(sorted(stds), 0.75) == pytest.approx(0.4330127) and quantile(sorted(stds), 0.9) == pytest.approx(0.4732051)
    assert undecided(stats, 0.75, None) == [2, 1, 3] == undecided(stats, 0.5, None)
    assert undecided(stats, 0.9, None) == [2]
    # q 0 asks nothing, but a prompt without any spread is never kept; top 2: the first of the equal ones
    assert (
        undecided(stats, 0.0, None) == [2, 1, 3]
        and undecided(stats, None, 2) == [2, 1]
        and undecided(stats, None, 9) == [2, 1, 3]
    )
    pool = pool_with(VarianceTop(top=2), 6, offline_stds={f"p{i:03d}": std for i, std in enumerate(stds)})
    assert pool.eligible_places() == [1, 2, 5]


@pytest.mark.proves("pool.variance_top", "law")
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=15), st.floats(0, 0.99), st.integers(1, 15))
def test_what_is_kept_spreads_no_less_than_what_is_not(spreads, q, top):
    stats = [PromptStat(i, offline_std=spread) for i, spread in enumerate(spreads)]
    for found in (undecided(stats, q, None), undecided(stats, None, top)):
        left = [s for i, s in enumerate(spreads) if s is not None and i not in found]
        assert all(spreads[i] >= max(left, default=0.0) - 2e-9 and spreads[i] > 1e-9 for i in found)
    assert len(undecided(stats, None, top)) <= top
    known = sum(spread is not None and spread > 1e-9 for spread in spreads)
    assert not known or undecided(stats, q, None)


@pytest.mark.proves("pool.variance_top", "resume")
def test_the_kept_set_follows_the_draws_and_comes_back_with_the_pools_state():
    def make_pool():
        return pool_with(VarianceTop(top=1), 3)

    pool = make_pool()
    pool.observe(0, [group_of(pool.samples[i], right, 4) for i, right in enumerate((4, 2, 1))])
    assert pool.eligible_places() == [1]
    other = make_pool()
    assert other.eligible_places() == [0, 1, 2]
    other.load_state_dict(pool.state_dict())
    assert other.eligible_places() == [1]


@pytest.mark.proves("pool.rap", "vector", "table")
def test_rap_keeps_what_needs_the_image():
    # guides B15: M 8, 6 right with the image, 1 without: D = 5/8 = .625 >= .5
    pool = pool_with(NeedsImages(), 3, rap_ds={"p000": 6 / 8 - 1 / 8, "p001": 0.5 - 1e-12, "p002": 0.375})
    assert pool.stats[0].rap_d == 0.625 and pool.eligible_places() == [0, 1]
    with pytest.raises(DataError, match="blind_rollouts"):
        pool_with(NeedsImages(), 3)


@pytest.mark.proves("pool.rap", "law")
@given(st.one_of(st.none(), st.floats(-1, 1)), st.floats(-1, 1))
def test_rap_is_a_threshold_and_unknown_never_passes(gain, least):
    assert NeedsImages(min_d=least).keeps(PromptStat(0, rap_d=gain)) == (gain is not None and gain >= least - 1e-9)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("retire_solved", {"times": 0}, "times must be 1"),
        ("window", {"above": 0.5, "below": 0.5}, "above must be less than below"),
        ("window", {"rate": "now"}, "latest, offline"),
        ("variance_top", {}, "give q"),
        ("variance_top", {"q": 0.5, "top": 3}, "one of the two"),
        ("variance_top", {"q": 1.0}, r"q must be in \[0, 1\)"),
        ("variance_top", {"top": 0}, "top must be 1"),
        ("rap", {"min_d": 1.5}, r"in \[-1, 1\]"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        make("pool", name, settings)


def test_offline_figures_reach_the_pool_from_a_select_stage(tmp_path):
    from types import SimpleNamespace

    from factory.contracts import DataRequest
    from factory.stages.lesson_files import PROMPTS, prompt_row, write_rows
    from factory.stages.lesson_files import PromptStat as Measured
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.prompts import training_prompts

    rows = [Measured("a", 0.25, 0.1875, True, 2, rap_d=0.25), Measured("b", 1.0, 0.0, False, 0)]
    write_rows(tmp_path / PROMPTS, [prompt_row(row) for row in rows])
    pack = SimpleNamespace(samples=lambda split, seed, request: [sample("a"), sample("b"), sample("c")])
    ctx = SimpleNamespace(pack=pack, seed=0, request=DataRequest(), inputs={"pick": tmp_path})
    found = training_prompts(RlConfig(prompts_from="pick"), ctx)
    pool = PromptPool(found.samples, offline=found.pass_rates, offline_stds=found.value_stds, rap_ds=found.rap_ds)
    # 0.1875 = p(1-p) at 1/4; its root is .4330127. The repeated prompt is there twice, both measured.
    assert [s.id for s in pool.samples] == ["a", "a#2"]
    assert [(s.offline_rate, s.pass_rate, round(s.offline_std, 7), s.rap_d, s.spread) for s in pool.stats] == [
        (0.25, 0.25, 0.4330127, 0.25, math.sqrt(0.1875))
    ] * 2
    pool.observe(0, [group_of(pool.samples[0], 2, 2)])
    assert (pool.stats[0].offline_rate, pool.stats[0].pass_rate, pool.stats[0].spread) == (0.25, 1.0, 0.0)
    assert context().progress == 0.0
