"""Every rule of the conflict table fires on its case, as an error or as a note; no rule is dead text."""

import pytest

from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import RULES, Case, check
from factory.stages.rl.presets import resolve

CASES = [
    ({"num_steps": 0}, "counts"),
    ({"group_size": 1}, "group_of_one"),
    ({"temperature": 0.0}, "greedy_rollouts"),
    ({"top_p": 0.0}, "top_p_range"),
    ({}, "sharded_generation"),
    ({"top_p": 0.9}, "cut_sampling"),
    ({}, "idle_clip"),
    ({"preset": "grpo"}, "no_filter_waste"),
    ({"preset": "dapo"}, "both_overlong"),
    ({"pieces": {"kl": "k1"}}, "k1_in_loss"),
]

RULES_BY_NAME = {rule.name: rule for rule in RULES}


def launch_of(rule: str) -> dict:
    return {"zero_stage": 3} if rule == "sharded_generation" else {}


@pytest.mark.parametrize(("changes", "rule"), CASES)
def test_a_rule_fires_on_its_case(changes, rule):
    config = RlConfig(**changes)
    chosen = resolve(config)
    assert RULES_BY_NAME[rule].applies(Case(config, chosen, launch_of(rule)))
    if RULES_BY_NAME[rule].is_error:
        with pytest.raises(ConfigError, match=r"stages\.rl: "):
            check("rl", config, chosen, launch_of(rule))
    else:
        assert RULES_BY_NAME[rule].message in check("rl", config, chosen, launch_of(rule))


def test_every_rule_has_a_case():
    assert {rule for _, rule in CASES} == set(RULES_BY_NAME)


def test_plain_grpo_with_a_filter_breaks_no_rule():
    config = RlConfig(preset="dapo_oversample", minibatches=2)
    assert check("rl", config, resolve(config), {}) == ()
