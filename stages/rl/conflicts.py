"""Pieces and settings that contradict each other: refused, or allowed with a note, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.errors import ConfigError
from factory.rewards.mixture import Mixture
from factory.stages.rl.config import RlConfig
from factory.stages.rl.conflict_rules import PIECE_RULES, SETTING_RULES
from factory.stages.rl.one_step_off_rules import OFF_RULES
from factory.stages.rl.presets import Chosen
from factory.stages.rl.rule import Case, Rule

RULES: tuple[Rule, ...] = SETTING_RULES + PIECE_RULES + OFF_RULES


def check(name: str, config: RlConfig, chosen: Chosen, launch: Mapping[str, Any], *, is_moe: bool = False) -> tuple[str, ...]:
    """The notes of the plan. Raises ConfigError with the first contradiction, named with the stage's key."""
    case = Case(config, chosen, launch, is_moe)
    for rule in RULES:
        if rule.is_error and rule.applies(case):
            raise ConfigError(f"stages.{name}: {rule.message}")
    return tuple(rule.message for rule in RULES if not rule.is_error and rule.applies(case))


def check_parts(name: str, chosen: Chosen, mixture: Mixture) -> tuple[str, ...]:
    """Notes of the pieces that read or replace parts of the reward, given the tasks of the pack.

    Raises:
        ConfigError: a piece names a part that a task does not measure, or must not count, named with the stage's key.
    """
    notes: list[str] = []
    for piece in chosen.made.values():
        if hasattr(piece, "check_mixture"):
            try:
                notes += piece.check_mixture(mixture)
            except ConfigError as err:
                raise ConfigError(f"stages.{name}: {err}") from err
    return tuple(notes)
