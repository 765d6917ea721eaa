"""Preference pairs from the rollouts of one prompt. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from factory.stages.select.config import PairRule
from factory.stages.select.lessons import right_traces
from factory.stages.select.rollouts import TOLERANCE, Scored, is_right

Couple = tuple[Scored, Scored]
"""(winner, loser)."""


def own_pairs(
    rollouts: Sequence[Scored], rule: PairRule, *, right_from: float, longer: float = 1.5, max_pairs: int = 0, seed: int = 0
) -> list[Couple]:
    """The pairs of one prompt, winner first; masked and blind rollouts take no part, equal texts are one.

    Args:
        max_pairs: at most so many, drawn from (seed, sample id); 0 takes all.
    """
    right = right_traces(rollouts, right_from)
    if rule is PairRule.none or not right:
        return []
    wrong = wrong_traces(rollouts, right_from)
    couples = right_over_wrong(right, wrong) if rule is PairRule.right_wrong else short_over_long(right, wrong, longer)
    if max_pairs and len(couples) > max_pairs:
        chosen = random.Random(f"pairs-{seed}-{right[0].sample}").sample(range(len(couples)), max_pairs)
        return [couples[place] for place in sorted(chosen)]
    return couples


def wrong_traces(rollouts: Sequence[Scored], right_from: float) -> list[Scored]:
    """Wrong, sighted rollouts with different texts, in index order. Cut-off ones are in: rambling on is a way to be wrong."""
    by_text: dict[str, Scored] = {}
    for rollout in sorted(rollouts, key=lambda rollout: rollout.index):
        if not (rollout.blind or rollout.masked or is_right(rollout, right_from)):
            by_text.setdefault(rollout.text, rollout)
    return list(by_text.values())


def right_over_wrong(right: Sequence[Scored], wrong: Sequence[Scored]) -> list[Couple]:
    """Every right trace over every wrong one."""
    return [(winner, loser) for winner in right for loser in wrong]


def short_over_long(right: Sequence[Scored], wrong: Sequence[Scored], longer: float) -> list[Couple]:
    """The shortest right trace over each longer wrong one and each right one at least `longer` times as long.

    Source: Kimi k1.5, long2short DPO (arXiv 2501.12599, section 2.4; guides B12.3), with `longer` 1.5.
    """
    winner = min(right, key=lambda rollout: (rollout.tokens, rollout.index))
    losers = [rollout for rollout in wrong if rollout.tokens > winner.tokens]
    losers += [rollout for rollout in right if rollout is not winner and rollout.tokens >= longer * winner.tokens - TOLERANCE]
    return [(winner, loser) for loser in losers]
