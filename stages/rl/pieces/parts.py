"""Reading one named part of a rollout's reward: a judge's score, a safety score, a format score.

A part is a verifier of the pack (`coherence`) or a part of its verdict (`judge/reasoning`); scores are in [0, 1]. A
verifier with weight 0 in the pack's `tasks` is measured and does not count, which is what most pieces here want.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from factory.errors import ConfigError, RewardError, near_miss
from factory.stages.rl.rollouts import Group, Rollout

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture

FAILED = ("error", "timeout")
"""Statuses that say nothing about the rollout."""


def part_score(rollout: Rollout, part: str, piece: str) -> float | None:
    """The part's score, None when its verifier failed on this rollout.

    A verdict that could not read the completion (`unparsable`) and gave no parts scores 0.

    Raises:
        RewardError: the rollout's task does not measure the part; names what it has.
    """
    parts = rollout.reward.parts if rollout.reward else {}
    if part in parts:
        return parts[part]
    status = rollout.reward.statuses.get(part.split("/")[0]) if rollout.reward else None
    if status in FAILED:
        return None
    if status == "unparsable":
        return 0.0
    raise RewardError(
        f"rl: {piece} reads the part '{part}', which a rollout does not have.{near_miss(part, parts)} "
        f"It has: {', '.join(parts) or 'none'}. Name one of them."
    )


def part_or_mask(rollout: Rollout, part: str, piece: str) -> float | None:
    """`part_score`; a rollout whose part failed is masked, because a failed judge is not a bad answer."""
    score = part_score(rollout, part, piece)
    if score is None and rollout.reward is not None:
        rollout.reward = replace(rollout.reward, value=0.0, masked=True)
    return score


def check_part(piece: str, setting: str, part: str, mixture: Mixture, tasks: Iterable[str] = ()) -> None:
    """Refuse a part that some task does not measure, before anything is loaded.

    Raises:
        ConfigError: unknown task, or the task does not run the part's verifier.
    """
    verifier = part.split("/")[0]
    for task in check_tasks(piece, tasks, mixture):
        known = mixture.verifiers_for(task)
        if verifier not in known:
            raise ConfigError(
                f"rl: pieces.{piece}.{setting}={part!r}: task '{task}' has no verifier '{verifier}'."
                f"{near_miss(verifier, known)} It has: {', '.join(known)}. Name one of these, or add '{verifier}' to the task "
                "with weight 0 (measured, not counted)."
            )


def check_tasks(piece: str, tasks: Iterable[str], mixture: Mixture) -> Sequence[str]:
    """The named tasks, all when none is named. Raises ConfigError for an unknown one."""
    for task in tasks:
        if task not in mixture.tasks:
            raise ConfigError(
                f"rl: pieces.{piece}.tasks: the pack has no task '{task}'.{near_miss(task, mixture.tasks)} "
                f"Tasks: {', '.join(mixture.tasks)}."
            )
    return list(tasks) or list(mixture.tasks)


def is_routed(group: Group, tasks: Sequence[str]) -> bool:
    """True when the group's task is one of `tasks`, or none is named."""
    return not tasks or group.sample.task in tasks
