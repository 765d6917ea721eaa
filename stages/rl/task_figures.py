"""What a step says of its tasks: columns while there are few, percentiles when there are many, and a line in `tasks.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence

from factory.rewards.task_stats import TaskCount, spread
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.rollouts import Group

MOST_COLUMNS = 12
"""Tasks of a run up to which each has figures of its own in metrics.jsonl."""


def task_counts(groups: Sequence[Group]) -> dict[str, TaskCount]:
    """task -> counts of these groups, as drawn."""
    found: dict[str, TaskCount] = {}
    for group in groups:
        live = [rollout for rollout in group.rollouts if not rollout.is_masked]
        found.setdefault(group.sample.task, TaskCount()).add(
            TaskCount(
                len(group.rollouts), len(group.rollouts) - len(live), sum(rollout.right for rollout in live),
                sum(rollout.value for rollout in live), 1, int(not has_spread(group.values())),
            )
        )  # fmt: skip
    return found


def task_figures(groups: Sequence[Group], num_tasks: int) -> dict[str, float]:
    """Figures of a step, in a run of `num_tasks` tasks (which decides the form, so that columns do not come and go).

    Few tasks: `task/<name>/reward`, `/pass`, `/share` (of the step's rollouts). Many: `tasks/drawn`, `tasks/pass_p10`, `_p50`
    and `_p90` over the tasks drawn. One task: nothing that `reward` does not say.
    """
    counts = task_counts(groups)
    if num_tasks < 2:
        return {}
    if num_tasks > MOST_COLUMNS:
        found = {"tasks/drawn": float(len(counts))}
        percentiles = spread(count.pass_rate for count in counts.values() if count.pass_rate is not None)
        return found | (
            dict(zip(("tasks/pass_p10", "tasks/pass_p50", "tasks/pass_p90"), percentiles, strict=True)) if percentiles else {}
        )
    every = sum(count.rollouts for count in counts.values())
    figures: dict[str, float] = {}
    for task, count in sorted(counts.items()):
        figures[f"task/{task}/share"] = count.rollouts / every
        if count.mean_reward is not None and count.pass_rate is not None:
            figures[f"task/{task}/reward"] = count.mean_reward
            figures[f"task/{task}/pass"] = count.pass_rate
    return figures
