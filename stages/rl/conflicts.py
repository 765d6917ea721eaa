"""Pieces and settings that contradict each other: refused, or allowed with a note, before anything is loaded.

One row per rule (the table of guides' section C5 and our own), so that the list can be read and tested as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.presets import Chosen


@dataclass(frozen=True)
class Case:
    """What a rule may look at."""

    config: RlConfig
    chosen: Chosen
    launch: Mapping[str, Any] = field(default_factory=dict)
    is_moe: bool = False
    """The base is a mixture-of-experts model."""

    def has(self, *keys: str) -> bool:
        """True when any of these pieces (`slot.name`) is in use."""
        return any(self.chosen.has(key) for key in keys)

    def all_of(self, *keys: str) -> bool:
        """True when all of these pieces are in use."""
        return all(self.chosen.has(key) for key in keys)

    def get(self, key: str, setting: str, default: Any = None) -> Any:
        """A setting of a piece in use; `default` when the piece is not."""
        return getattr(self.chosen.made[key], setting) if self.chosen.has(key) else default


@dataclass(frozen=True)
class Rule:
    """`applies` -> the message is an error or a note of the plan."""

    name: str
    is_error: bool
    applies: Callable[[Case], bool]
    message: str


_POSITIVE = ("num_steps", "samples", "prompts_per_step", "max_new_tokens", "updates_per_rollout", "minibatches")


def _idle_clip(case: Case) -> bool:
    one_update = case.config.updates_per_rollout * case.config.minibatches == 1
    return one_update and case.has("loss.clip") and not any(case.chosen.many("inject"))


SETTING_RULES: tuple[Rule, ...] = (
    Rule(
        "counts", True, lambda c: any(getattr(c.config, key) < 1 for key in _POSITIVE),
        f"{', '.join(_POSITIVE)} must be 1 or more.",
    ),
    Rule(
        "group_of_one", True, lambda c: c.config.group_size < 2 and c.has("advantage.group_std", "advantage.group_mean"),
        "group_size must be 2 or more for group advantages: one rollout has nothing to be compared with. Set group_size=8.",
    ),
    Rule(
        "greedy_rollouts", True, lambda c: c.config.temperature <= 0,
        "temperature must be above 0: greedy rollouts of one prompt are all the same. Set temperature=1.0.",
    ),
    Rule("top_p_range", True, lambda c: not 0 < c.config.top_p <= 1, "top_p must be above 0 and at most 1."),
    Rule(
        "sharded_generation", True, lambda c: c.launch.get("zero_stage", -1) == 3 and c.config.engine == "transformers",
        "launch.zero_stage=3 splits the weights over processes, so engine=transformers cannot generate. Set launch.zero_stage=2.",
    ),
    Rule(
        "cut_sampling", False, lambda c: c.config.top_p < 1 or c.config.top_k > 0,
        "top_p or top_k cut what is sampled, but ratios and KL speak of the whole of it: the update is slightly off-policy.",
    ),
    Rule("idle_clip", False, _idle_clip, "one update per rollout: the ratio is 1, so the clip range has no effect."),
    Rule(
        "no_filter_waste", False,
        lambda c: c.has("supply.fixed") and not c.get("supply.fixed", "drop_equal") and not c.has("kl.k1", "kl.k2", "kl.k3"),
        "groups with equal rewards are kept: they cost a forward and backward and teach nothing.",
    ),
)  # fmt: skip

PIECE_RULES: tuple[Rule, ...] = (
    Rule(
        "both_overlong", False, lambda c: c.all_of("resample.overlong_filter", "reward.overlong"),
        "overlong filter and punishment together: a truncated rollout gets no gradient, but its punishment moves the mean.",
    ),
    Rule(
        "k1_in_loss", False, lambda c: c.get("kl.k1", "place") == "loss",
        "kl=k1 in the loss has a gradient of mean zero; k3 (or k1 with place=reward) acts.",
    ),
)  # fmt: skip

RULES: tuple[Rule, ...] = SETTING_RULES + PIECE_RULES


def check(name: str, config: RlConfig, chosen: Chosen, launch: Mapping[str, Any], *, is_moe: bool = False) -> tuple[str, ...]:
    """The notes of the plan. Raises ConfigError with the first contradiction, named with the stage's key."""
    case = Case(config, chosen, launch, is_moe)
    for rule in RULES:
        if rule.is_error and rule.applies(case):
            raise ConfigError(f"stages.{name}: {rule.message}")
    return tuple(rule.message for rule in RULES if not rule.is_error and rule.applies(case))
