"""PTST: short answers and large groups first, the same number of tokens per prompt throughout."""

import pytest
from fake_policy import context
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import check
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.ptst import Ptst
from factory.stages.rl.presets import resolve


@pytest.mark.proves("clock.ptst", "table")
def test_the_papers_stages():
    # Vision-R1: 4K x 16, 8K x 8, 16K x 4; 9 steps in three equal stages
    paper = [(4096, 16)] * 3 + [(8192, 8)] * 3 + [(16384, 4)] * 3
    shares = [Ptst().limits(context(step, 9, max_new_tokens=16384, group_size=16)) for step in range(9)]
    numbers = Ptst(lengths=[4096, 8192, 16384], groups=[16, 8, 4])
    assert shares == paper == [numbers.limits(context(step, 9, max_new_tokens=16384, group_size=16)) for step in range(9)]
    assert numbers.all_limits(1, 1) == [(4096, 16), (8192, 8), (16384, 4)]
    # its final model stopped after the second stage; ends .5, 1
    two = Ptst(lengths=[0.25, 0.5], groups=[1.0, 0.5], ends=[0.5, 1.0])
    ctx = context(5, 10, max_new_tokens=16384, group_size=16)
    assert two.limits(ctx) == (8192, 8) and ctx.metrics == {"ptst_stage": 1.0, "max_new_tokens": 8192.0, "group_size": 8.0}


@pytest.mark.proves("clock.ptst", "table")
def test_the_clock_is_the_stages_own():
    # The reset rule: only step / total counts, so another rl stage starts with the first limits again, whatever came before.
    clock = Ptst()
    late = clock.limits(context(99, 100, max_new_tokens=64, group_size=8))
    assert late == (64, 2) and clock.limits(context(0, 30, max_new_tokens=64, group_size=8)) == (16, 8)
    assert not hasattr(clock, "state_dict")


@pytest.mark.proves("clock.ptst", "law")
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 200), st.integers(1, 200))
def test_tokens_per_prompt_are_constant_and_limits_are_never_exceeded(powers, step, total):
    lengths = [2.0**-power for power in sorted(powers, reverse=True)]
    groups = [lengths[0] / length for length in lengths]
    found = Ptst(lengths=lengths, groups=groups).limits(context(min(step, total - 1), total, max_new_tokens=2048, group_size=32))
    assert found[0] * found[1] == 2048 * 32 * lengths[0]
    assert found[0] <= 2048 and found[1] <= 32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lengths": [0.5, 1.0]}, "one entry for each stage"),
        ({"lengths": [0.5, 0.5, 1.0]}, "must be the same in every stage"),
        ({"lengths": [0.0, 0.5, 1.0]}, "must be above 0"),
        ({"lengths": [0.5, 8.0], "groups": [8.0, 0.5]}, "mixes shares"),
        ({"ends": [0.5, 1.0]}, "3 rising shares"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        make("clock", "ptst", values)


def test_a_group_that_would_be_too_small_is_refused_at_plan():
    config = RlConfig(preset="vision_r1_ptst", group_size=4)
    with pytest.raises(ConfigError, match="group_size 2 up to the configured one"):
        check("rl", config, resolve(config), {})


@pytest.mark.proves("clock.ptst", "run")
def test_a_run_changes_length_and_group_size(run_stage):
    _, rows, _ = run_stage(preset="vision_r1_ptst", num_steps=3, max_new_tokens=8, prompts_per_step=2)
    assert [(row["max_new_tokens"], row["group_size"]) for row in rows] == [(2, 8), (4, 4), (8, 2)]
    for row in rows:
        # two prompts, each with the group and the limit of its stage: 16 tokens a prompt at most, in all of them
        assert row["generated_tokens"] == row["length"] * 2 * row["group_size"] <= 2 * 16
