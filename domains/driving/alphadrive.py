"""AlphaDrive's rewards for a whole group, as the paper prints them and as the released code computes them (arXiv 2503.07608).

Three columns, summed: speed, path, format. The factory's RL step uses the verifiers `plan_paper` and `format` and the piece
`group_reward.diversity`; these functions are for comparison, golden rows and users who score completions by themselves.

Faults of the released code, each kept only with `as_released`:
- an empty prediction earns +0.4, because all of no words are new;
- the counter of seen words runs over the batch, not over the prompt's group;
- so the order of completions in the batch changes their rewards (within a group it still does: "first" must be someone).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from factory.domains.driving.actions import AXES, WEIGHTS, Plan, f1, read_plan, read_plan_as_released
from factory.rewards.formats import parse

DIVERSITY_CAP = 0.2
NOVELTY = 0.4
_FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
Columns = dict[str, float]
"""`speed`, `path` and `format` of one completion."""


def keeps_format(completion: str) -> float:
    """1 when the whole text is a reasoning block, white space and an answer block."""
    return float(_FORMAT.fullmatch(completion) is not None)


def diversity(count: int, total: int, cap: float = DIVERSITY_CAP) -> float:
    """1 - min(cap, count / total), where `count` of `total` answers are this one."""
    return 1.0 - min(cap, count / total) if total else 1.0


def mean_weight(words: frozenset[str]) -> float:
    """Mean weight of the actions; 0 for none."""
    return math.fsum(WEIGHTS[word] for word in words) / len(words) if words else 0.0


def _plan(completion: str) -> Plan:
    answer = parse(completion).answer
    try:
        return read_plan(answer) if answer else Plan()
    except ValueError:
        return Plan()


def paper_columns(completions: Sequence[str], gold: str) -> list[Columns]:
    """Algorithm 1 on one group: F1 x weight x diversity on each axis, and the format.

    Two passes: the whole group is counted first, so that the order does not matter.

    Args:
        completions: all answers to one prompt.
        gold: the true actions, such as `DECELERATE, STRAIGHT`.
    """
    want, plans = read_plan(gold), [_plan(text) for text in completions]
    columns: list[Columns] = [{"format": keeps_format(text)} for text in completions]
    for axis in AXES:
        counts = Counter(plan.on(axis) for plan in plans)
        for row, plan in zip(columns, plans, strict=True):
            got = plan.on(axis)
            row[axis] = f1(got, want.on(axis)) * mean_weight(got) * diversity(counts[got], len(plans))
    return columns


def released_columns(
    completions: Sequence[str], golds: Sequence[str], *, group_size: int, as_released: bool = False
) -> list[Columns]:
    """The released code's columns: F1 x mean weight of the predicted actions, and +-0.4 for news, in the order of the batch.

    Args:
        completions: the batch, the answers to one prompt next to each other.
        golds: the true actions of each.
        group_size: answers per prompt; the counter of seen words starts anew with each group.
        as_released: keep the faults: one counter for the batch, and +0.4 for an empty prediction.
    """
    columns: list[Columns] = []
    seen: dict[str, set[str]] = {axis: set() for axis in AXES}
    for index, (text, gold) in enumerate(zip(completions, golds, strict=True)):
        if index % group_size == 0 and not as_released:
            seen = {axis: set() for axis in AXES}
        found = _ANSWER.search(text)
        got, want = read_plan_as_released(found.group(1) if found else ""), read_plan_as_released(gold)
        row = {"format": keeps_format(text)}
        for axis in AXES:
            words = got.on(axis)
            is_new = not (words & seen[axis])
            news = NOVELTY if is_new else -NOVELTY
            row[axis] = f1(words, want.on(axis)) * mean_weight(words) + news if words or as_released else 0.0
            seen[axis] |= words
        columns.append(row)
    return columns
