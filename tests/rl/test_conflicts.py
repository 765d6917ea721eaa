"""Every rule of the conflict table fires on its case, as an error or as a note; no rule is dead text."""

import pytest

from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import RULES, check
from factory.stages.rl.presets import resolve
from factory.stages.rl.rule import Case

SOPHIA = {"reasoner": "policy", "alpha": 0.5, "num_traces": 2, "trace_tokens": 4, "temperature": 1.0}

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
    ({"preset": "gspo", "pieces": {"loss": {"mirror_descent": {"tau": 0.1}}, "kl": "k3"}}, "mirror_two_references"),
    ({"preset": "dapo", "pieces": {"loss": {"mirror_descent": {"tau": 0.1}}}}, "mirror_aggregator"),
    ({"preset": "grpo", "pieces": {"loss": {"mirror_descent": {"tau": 0.1}}}}, "reset_under_deepspeed"),
    ({"preset": "gspo", "pieces": {"aggregator": "token_mean"}}, "gspo_aggregator"),
    ({"preset": "gspo", "pieces": {"token_weight": "tw_grpo"}}, "sequence_loss_token_weight"),
    ({"preset": "oreal", "pieces": {"aggregator": "seq_mean_token_mean"}}, "oreal_aggregator"),
    ({"preset": "grpo", "pieces": {"aggregator": "constant_length"}}, "std_with_constant_length"),
    ({"preset": "dr_grpo", "pieces": {"advantage": "group_std"}}, "dr_grpo_with_std"),
    ({"preset": "grpo", "pieces": {"kl_schedule": "cosine"}}, "schedule_without_kl"),
    ({"preset": "reinforce_pp", "pieces": {"kl": {"k2": {"place": "reward"}}}}, "token_kl_estimator"),
    ({"preset": "rloo", "minibatches": 2}, "no_ratio_many_updates"),
    ({"preset": "kl_cov", "pieces": {"auxiliary": "kl_cov_penalty"}}, "two_flags"),
    ({"preset": "intern_s1"}, "skip_under_deepspeed"),
    ({"preset": "grpo"}, "moe_token_ratio"),
    ({"pieces": {"sampler": "curriculum"}}, "offline_rates"),
    ({"group_size": 4, "pieces": {"clock": "ptst"}}, "ptst_limits"),
    ({"pieces": {"auxiliary": {"staged_entropy": {"easy": 0.0, "medium": 0.001, "hard": 0.01}}}}, "staged_entropy_alone"),
    ({"preset": "arpo", "pieces": {"supply": "refill"}}, "filter_before_injection"),
    ({"preset": "vl_rethinker", "pieces": {"resample": "pad_code"}}, "ssr_and_pad"),
    ({"preset": "arpo", "pieces": {"inject": "exgrpo"}}, "exgrpo_and_arpo"),
    ({"preset": "luffy", "pieces": {"inject": "exgrpo"}}, "luffy_and_exgrpo"),
    ({"preset": "revisual_pad", "pieces": {"advantage": "group_std"}}, "pad_with_std"),
    ({"preset": "luffy", "pieces": {"loss": "cispo"}}, "injected_and_cispo"),
    ({"preset": "exgrpo", "pieces": {"loss": "cpgd"}}, "injected_and_cpgd"),
    ({"preset": "luffy", "pieces": {"loss": "gspo"}}, "injected_and_sequence_loss"),
    ({"preset": "exgrpo", "pieces": {"loss": "clip"}}, "injected_and_clip"),
    ({"preset": "luffy"}, "luffy_without_lessons"),
    ({"pieces": {"hook": {"sophia": SOPHIA}}}, "sophia_update"),
    ({"pieces": {"hook": {"racro": {"reasoner": "policy"}}}}, "racro_without_caption"),
    ({"pieces": {"group_reward": {"dast_length": {}, "shortest_bonus": {}}}}, "two_length_rewards"),
    ({"preset": "dapo", "pieces": {"group_reward": "dast_length"}}, "length_and_overlong"),
    ({"pieces": {"group_reward": "dast_length", "hook": "forced_rethinking"}}, "length_and_rethinking"),
    ({"preset": "grpo", "pieces": {"weigh": "observe"}}, "difficulty_twice"),
    ({"preset": "grpo", "pieces": {"kl_weight": "dads"}}, "kl_weight_without_kl"),
    ({"preset": "grpo", "pieces": {"kl_weight": "dads", "kl": {"k1": {"place": "reward"}}}}, "kl_weight_in_reward"),
    ({"preset": "care", "pieces": {"kl": "k3"}}, "care_with_kl"),
    ({"preset": "care", "pieces": {"reference": "start"}}, "care_frozen"),
    ({"preset": "grpo", "pieces": {"reference": "ema"}}, "idle_ema"),
    ({"preset": "care"}, "sharded_ema"),
    ({"preset": "mm_upt", "pieces": {"mixer": {"format_gate": {"part": "format"}}}}, "vote_and_labels"),
    ({"preset": "mm_upt", "pieces": {"group_reward": "care"}}, "vote_and_right"),
    ({"preset": "gdpo", "pieces": {"advantage": "group_std"}}, "normalised_twice"),
    ({"preset": "gdpo", "pieces": {"kl": {"k1": {"place": "reward"}}}}, "normalised_kl"),
    ({"preset": "papo", "pieces": {"auxiliary": "entropy_bonus"}}, "papo_and_entropy_bonus"),
    ({"preset": "deepeyes", "pieces": {"auxiliary": "papo"}}, "papo_and_zoom"),
    ({"preset": "papo"}, "papo_entropy_without_gradient"),
    ({"preset": "grpo", "pieces": {"format": "zoom"}}, "zoom_without_hook"),
    ({"preset": "grpo", "pieces": {"hook": "zoom"}}, "zoom_without_format"),
    ({"preset": "deepeyes", "pieces": {"format": {"zoom": {"unit": "thousandth"}}}}, "zoom_units"),
    ({"preset": "grpo", "pieces": {"reward": "format"}}, "format_reward_without_format"),
    ({"preset": "observe_format", "pieces": {"reward": "caption"}}, "caption_reward_without_caption"),
    ({"preset": "grpo", "pieces": {"reward": "satori"}}, "satori_without_format"),
    ({"preset": "grpo", "pieces": {"auxiliary": "sft_selected"}}, "edited_without_sft"),
    ({"one_step_off": True, "preset": "dapo"}, "off_refills"),
    ({"one_step_off": True, "pieces": {"sampler": "mix"}}, "off_sampler"),
    ({"one_step_off": True, "preset": "exgrpo"}, "off_reserve"),
    ({"one_step_off": True, "preset": "grpo", "pieces": {"hook": "force_answer"}}, "off_hooks"),
    ({"one_step_off": True, "preset": "rloo", "pieces": {"token_weight": {"tis": None}}}, "off_uncorrected"),
    ({"one_step_off": True}, "off_serial"),
    ({"one_step_off": True, "engine": "vllm"}, "off_awake"),
]

RULES_BY_NAME = {rule.name: rule for rule in RULES}


LAUNCHES = {
    "sharded_ema": {"zero_stage": 3},
    "sharded_generation": {"zero_stage": 3},
    "skip_under_deepspeed": {"zero_stage": 2},
    "reset_under_deepspeed": {"zero_stage": 2},
}
OF_MOE = {"moe_token_ratio"}


def launch_of(rule: str) -> dict:
    return LAUNCHES.get(rule, {})


@pytest.mark.parametrize(("changes", "rule"), CASES)
def test_a_rule_fires_on_its_case(changes, rule):
    config = RlConfig(**changes)
    chosen = resolve(config)
    is_moe = rule in OF_MOE
    assert RULES_BY_NAME[rule].applies(Case(config, chosen, launch_of(rule), is_moe))
    if RULES_BY_NAME[rule].is_error:
        with pytest.raises(ConfigError, match=r"stages\.rl: "):
            check("rl", config, chosen, launch_of(rule))
    else:
        assert RULES_BY_NAME[rule].message in check("rl", config, chosen, launch_of(rule), is_moe=is_moe)


@pytest.mark.parametrize("launch", [{"zero_stage": 3}, {"fsdp": True}])
def test_weights_that_are_split_cannot_generate_in_the_trainer(launch):
    with pytest.raises(ConfigError, match="engine=transformers cannot generate"):
        check("rl", RlConfig(), resolve(RlConfig()), launch)
    check("rl", RlConfig(engine="vllm"), resolve(RlConfig(engine="vllm")), launch)


def test_every_rule_has_a_case():
    assert {rule for _, rule in CASES} == set(RULES_BY_NAME)


def test_plain_grpo_with_a_filter_breaks_no_rule():
    config = RlConfig(preset="dapo_oversample", minibatches=2)
    assert check("rl", config, resolve(config), {}) == ()
