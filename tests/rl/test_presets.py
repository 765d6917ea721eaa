"""Preset rows, overrides, contradictions and the plan: all of it without torch."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from factory.config.schema import AdapterConfig, AdapterKind
from factory.contracts import Manifest, ModelFacts
from factory.errors import ConfigError
from factory.stages.rl import STAGE
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflicts import RULES, check
from factory.stages.rl.presets import PRESETS, resolve

FACTS = ModelFacts(ref="m", modality="text", num_params=1000, hidden_size=8, num_layers=2, vocab_size=50, context=512)
PACK = SimpleNamespace(
    manifest=Manifest(
        name="p",
        title="P",
        version="1",
        license="MIT",
        intended_use="tests",
        not_for="else",
        tasks={"t": {"verifiers": {"exact": 1.0, "format": 0.1}, "gate": None, "title": "T"}},
    )
)
BUILD = {"precision": "fp32", "mixture": {}, "launch": {"processes": 1, "zero_stage": -1}}


def plan(**changes):
    return STAGE.plan("rl", RlConfig(**changes), FACTS, PACK, BUILD)


def test_grpo_is_std_advantage_symmetric_clip_and_sequence_mean():
    s = resolve(RlConfig(preset="grpo"))
    assert (s.advantage, s.aggregator, s.eps_low, s.eps_high, s.kl_coef, s.drop_equal) == (
        "group_std",
        "seq_mean_token_mean",
        0.2,
        0.2,
        0.0,
        False,
    )
    assert (s.max_refills, s.oversample, s.overlong_filter, s.overlong_cache) == (0, 1.0, False, 0)


def test_dr_grpo_is_grpo_without_std_and_length():
    grpo, dr = resolve(RlConfig(preset="grpo")), resolve(RlConfig(preset="dr_grpo"))
    assert dr == replace(grpo, preset="dr_grpo", advantage="group_mean", aggregator="constant_length")


def test_dapo_is_clip_higher_token_mean_dynamic_sampling_and_both_overlong_pieces():
    s = resolve(RlConfig(preset="dapo", max_new_tokens=20480))
    assert (s.eps_low, s.eps_high, s.aggregator, s.advantage, s.kl_coef) == (0.2, 0.28, "token_mean", "group_std", 0.0)
    assert (s.drop_equal, s.max_refills, s.on_spent, s.oversample) == (True, 9, "error", 1.0)
    assert (s.overlong_filter, s.overlong_cache, s.overlong_factor) == (True, 4096, 0.5)


def test_dapo_oversample_draws_twice_and_never_refills():
    s = resolve(RlConfig(preset="dapo_oversample", prompts_per_step=16))
    assert (s.supply().first_draw(), s.supply().wanted, s.max_refills, s.on_spent, s.drop_equal) == (
        32,
        16,
        0,
        "train_smaller",
        True,
    )
    assert (s.eps_low, s.eps_high, s.aggregator, s.overlong_filter, s.overlong_cache) == (0.2, 0.28, "token_mean", False, 0)


def test_an_override_wins_and_is_named():
    s = resolve(RlConfig(preset="dapo", eps_high=0.4, kl_coef=0.0))
    assert (s.eps_high, s.overridden) == (0.4, ("eps_high",))
    assert "preset dapo, changed: eps_high=0.4" in plan(preset="dapo", eps_high=0.4).notes


def test_naming_one_answer_to_equal_groups_switches_the_presets_other_off():
    assert resolve(RlConfig(preset="dapo", oversample=2.0)).max_refills == 0
    assert resolve(RlConfig(preset="dapo", oversample=2.0)).on_spent == "train_smaller"
    assert resolve(RlConfig(preset="dapo_oversample", max_refills=3)).oversample == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "dappo"}, "preset='dappo' is not known. Did you mean 'dapo'"),
        ({"advantage": "zscore"}, "advantage='zscore' is not known"),
        ({"aggregator": "mean"}, "aggregator='mean' is not known"),
        ({"kl_estimator": "k9"}, "kl_estimator='k9' is not known"),
        ({"on_spent": "weep"}, "on_spent='weep' is not known"),
        ({"engine": "transfomers"}, "engine='transfomers' is not known. Did you mean 'transformers'"),
        ({"num_steps": 0}, "must be 1 or more"),
        ({"group_size": 1}, "group_size must be 2 or more"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"eps_low": 0.0}, "eps_low must be in"),
        ({"dual_clip": 0.9}, "dual_clip must be above 1"),
        ({"kl_coef": -0.1}, "must be 0 or more"),
        ({"kl_unbiased": True, "kl_in": "reward"}, "kl_unbiased belongs to kl_in=loss"),
        ({"kl_in": "both"}, "kl_in must be 'loss' or 'reward'"),
        ({"oversample": 2.0, "max_refills": 2}, "two answers to the same problem"),
        ({"preset": "grpo", "max_refills": 2}, "max_refills needs drop_equal"),
        ({"oversample": 0.5}, "oversample must be 1 or more"),
        ({"overlong_cache": 65}, "overlong_cache must be between 0 and max_new_tokens"),
        ({"max_new_tokens": 500}, "exceed the model's context of 512"),
    ],
)
def test_contradictions_are_refused_at_plan(changes, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.").replace("(", r"\(")):
        plan(**changes)


def test_zero_3_cannot_generate_in_process():
    with pytest.raises(ConfigError, match=r"stages\.rl: launch\.zero_stage=3"):
        STAGE.plan("rl", RlConfig(), FACTS, PACK, {**BUILD, "launch": {"zero_stage": 3}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "grpo", "oversample": 2.0}, "oversample has no use"),
        ({"preset": "dapo"}, "overlong filter and punishment together"),
        ({"preset": "dr_grpo", "advantage": "group_std"}, "it is another method"),
        ({"kl_coef": 0.1, "kl_estimator": "k1"}, "gradient of mean zero"),
        ({"kl_estimator": "k2"}, "no effect with kl_coef=0"),
        ({"top_p": 0.9}, "slightly off-policy"),
        ({}, "the clip range has no effect"),
        ({"preset": "grpo"}, "teach nothing"),
    ],
)
def test_doubtful_settings_are_noted(changes, words):
    assert any(words in note for note in plan(**changes).notes)


def test_every_rule_can_fire():
    """Each row of the table above belongs to a rule; a rule nothing can trigger would be dead text."""
    cases = [
        {"num_steps": 0},
        {"group_size": 1},
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"eps_low": 0.0},
        {"dual_clip": 0.9},
        {"kl_coef": -0.1},
        {"kl_in": "x"},
        {"kl_unbiased": True, "kl_in": "reward"},
        {"oversample": 2.0, "max_refills": 2},
        {"preset": "grpo", "max_refills": 2},
        {"oversample": 0.5},
        {"overlong_cache": 65},
        {},
        {"preset": "grpo", "oversample": 2.0},
        {"preset": "dapo"},
        {"preset": "dr_grpo", "advantage": "group_std"},
        {"kl_coef": 0.1, "kl_estimator": "k1"},
        {"kl_estimator": "k2"},
        {"top_p": 0.9},
        {"preset": "grpo"},
    ]
    fired = set()
    for case in cases:
        config = RlConfig(**case)
        settings = resolve(config)
        fired |= {
            rule.name
            for rule in RULES
            if rule.applies(SimpleNamespace(config=config, settings=settings, launch={"zero_stage": 3}))
        }
    assert fired == {rule.name for rule in RULES}


def test_no_reference_is_kept_without_kl_and_the_plan_adds_one_with_it():
    without, with_kl = plan(), plan(kl_coef=0.04)
    assert with_kl.peak_memory_bytes == without.peak_memory_bytes + 1000 * 4
    assert "reference" in with_kl.memory_formula and "reference" not in without.memory_formula
    lora = plan(kl_coef=0.04, adapter=AdapterConfig(kind=AdapterKind.lora))
    assert "reference 1,000" not in lora.memory_formula
    assert resolve(RlConfig(kl_coef=0.04)).extra_forwards() == 1.0 and resolve(RlConfig()).extra_forwards() == 0.0
    assert resolve(RlConfig(entropy_coef=0.01)).needs() == {"old_logprobs", "entropy"}


def test_plan_counts_tokens():
    found = plan(num_steps=10, prompts_per_step=4, group_size=8, max_new_tokens=20, updates_per_rollout=2, minibatches=3)
    # trained: 10 steps * 2 passes * 32 rollouts * (48 + 20) tokens; generated: 10 * (2 * 4 prompts) * 8 * 20
    assert (found.num_steps, found.num_tokens, found.num_generated_tokens) == (60, 10 * 2 * 32 * 68, 10 * 8 * 8 * 20)


def test_a_pack_without_samples_is_refused():
    pack = SimpleNamespace(manifest=replace(PACK.manifest, provides=("corpus",)))
    with pytest.raises(ConfigError, match="provides no samples"):
        STAGE.plan("rl", RlConfig(), FACTS, pack, BUILD)


def test_every_preset_plans_and_has_only_known_keys():
    for name in PRESETS:
        settings = resolve(RlConfig(preset=name))
        assert settings.overridden == ()
        check("rl", RlConfig(preset=name), settings, {})


def test_planning_imports_no_torch():
    code = "import sys; import factory.stages.rl; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
