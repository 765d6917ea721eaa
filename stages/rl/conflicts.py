"""Settings that contradict each other: refused, or allowed with a note, before anything is loaded.

One row per rule, so that the list can be read and tested as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.presets import RlSettings


@dataclass(frozen=True)
class Case:
    """What a rule may look at."""

    config: RlConfig
    settings: RlSettings
    launch: Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """`applies` -> the message is an error or a note of the plan."""

    name: str
    is_error: bool
    applies: Callable[[Case], bool]
    message: str


_POSITIVE = ("num_steps", "samples", "prompts_per_step", "max_new_tokens", "updates_per_rollout", "minibatches")

RULES: tuple[Rule, ...] = (
    Rule(
        "counts", True, lambda c: any(getattr(c.config, key) < 1 for key in _POSITIVE),
        f"{', '.join(_POSITIVE)} must be 1 or more.",
    ),
    Rule(
        "group_of_one", True, lambda c: c.settings.advantage != "none" and c.config.group_size < 2,
        "group_size must be 2 or more for group advantages: one rollout has nothing to be compared with. Set group_size=8.",
    ),
    Rule(
        "greedy_rollouts", True, lambda c: c.config.temperature <= 0,
        "temperature must be above 0: greedy rollouts of one prompt are all the same. Set temperature=1.0.",
    ),
    Rule(
        "top_p_range", True, lambda c: not 0 < c.config.top_p <= 1,
        "top_p must be above 0 and at most 1.",
    ),
    Rule(
        "clip_range", True, lambda c: not 0 < c.settings.eps_low <= 1 or c.settings.eps_high <= 0,
        "eps_low must be in (0, 1] and eps_high above 0. The usual values are 0.2 and 0.28.",
    ),
    Rule(
        "dual_clip_range", True, lambda c: c.settings.dual_clip != 0 and c.settings.dual_clip <= 1,
        "dual_clip must be above 1 (usual: 3), or 0 to switch it off.",
    ),
    Rule(
        "negative_weights", True,
        lambda c: min(c.settings.kl_coef, c.settings.entropy_coef, c.settings.overlong_factor, c.settings.std_eps) < 0,
        "kl_coef, entropy_coef, overlong_factor and std_eps must be 0 or more.",
    ),
    Rule(
        "kl_place", True, lambda c: c.settings.kl_in not in ("loss", "reward"),
        "kl_in must be 'loss' or 'reward'.",
    ),
    Rule(
        "oversample_and_refill", True, lambda c: c.settings.oversample > 1 and c.settings.max_refills > 0,
        "oversample above 1 and max_refills above 0 are two answers to the same problem (groups without spread). Set one.",
    ),
    Rule(
        "refill_without_filter", True, lambda c: c.settings.max_refills > 0 and not c.settings.drop_equal,
        "max_refills needs drop_equal=true: without the filter there is nothing to refill.",
    ),
    Rule(
        "oversample_range", True, lambda c: c.settings.oversample < 1 or c.settings.max_refills < 0,
        "oversample must be 1 or more, and max_refills 0 or more.",
    ),
    Rule(
        "cache_longer_than_limit", True, lambda c: not 0 <= c.settings.overlong_cache <= c.settings.max_new_tokens,
        "overlong_cache must be between 0 and max_new_tokens: it is the last part of the allowed length.",
    ),
    Rule(
        "sharded_generation", True, lambda c: c.launch.get("zero_stage", -1) == 3 and c.config.engine == "transformers",
        "launch.zero_stage=3 splits the weights over processes, so engine=transformers cannot generate. Set launch.zero_stage=2.",
    ),
    Rule(
        "oversample_without_filter", False, lambda c: c.settings.oversample > 1 and not c.settings.drop_equal,
        "oversample has no use without drop_equal=true: the surplus groups are generated and thrown away.",
    ),
    Rule(
        "both_overlong", False,
        lambda c: c.settings.overlong_filter and c.settings.overlong_cache > 0 and c.settings.overlong_factor > 0,
        "overlong filter and punishment together: a truncated rollout gets no gradient, but its punishment moves the mean.",
    ),
    Rule(
        "dr_grpo_with_std", False, lambda c: c.settings.preset == "dr_grpo" and c.settings.advantage == "group_std",
        "dr_grpo is defined by advantages without the standard deviation; with advantage=group_std it is another method.",
    ),
    Rule(
        "k1_in_loss", False, lambda c: c.settings.kl_coef > 0 and c.settings.kl_estimator == "k1" and c.settings.kl_in == "loss",
        "kl_estimator=k1 in the loss has a gradient of mean zero; k3 (or k1 with kl_in=reward) acts.",
    ),
    Rule(
        "kl_without_effect", False,
        lambda c: c.settings.kl_coef == 0 and any((c.config.kl_estimator, c.config.kl_in, c.config.kl_unbiased)),
        "kl_estimator, kl_in and kl_unbiased have no effect with kl_coef=0.",
    ),
    Rule(
        "unbiased_in_reward", True, lambda c: c.settings.kl_unbiased and c.settings.kl_in == "reward",
        "kl_unbiased belongs to kl_in=loss: in the reward, the KL has no gradient of its own.",
    ),
    Rule(
        "cut_sampling", False, lambda c: c.config.top_p < 1 or c.config.top_k > 0,
        "top_p or top_k cut what is sampled, but ratios and KL speak of the whole of it: the update is slightly off-policy.",
    ),
    Rule(
        "idle_clip", False, lambda c: c.config.updates_per_rollout * c.config.minibatches == 1,
        "one update per rollout: the ratio is 1, so the clip range has no effect.",
    ),
    Rule(
        "no_filter_waste", False, lambda c: not c.settings.drop_equal and c.settings.kl_coef == 0,
        "groups with equal rewards are kept: they cost a forward and backward and teach nothing.",
    ),
)  # fmt: skip


def check(name: str, config: RlConfig, settings: RlSettings, launch: Mapping[str, Any]) -> tuple[str, ...]:
    """The notes of the plan. Raises ConfigError with the first contradiction, named with the stage's key."""
    case = Case(config, settings, launch)
    for rule in RULES:
        if rule.is_error and rule.applies(case):
            raise ConfigError(f"stages.{name}: {rule.message}")
    return tuple(rule.message for rule in RULES if not rule.is_error and rule.applies(case))
