"""Mixture-of-Rewards: each sample is routed to its verifiers by `task`, gated, normalised and summed to one scalar.

    value = gate * sum_k w_k * score_k / sum_k w_k        in [0, 1]

The rule of `guides/domains.md` 9.4; all parts are kept. A rollout with a failed verdict (`error`, `timeout`) is *masked*:
it has no reward at all, which is not the same as a reward of 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Verdict
from factory.errors import ConfigError, RewardError, near_miss


@dataclass(frozen=True, slots=True)
class Reward:
    """What one rollout earned, and why."""

    value: float
    """In [0, 1]; 0 when gated or masked."""
    masked: bool
    """A verdict that the value needs failed: the rollout must not be learned from."""
    gated: bool
    """The gate scored 0, so the whole value is 0."""
    parts: Mapping[str, float]
    """Score of every verifier that gave one; `verifier/part` for the parts of a verdict. Failed verdicts are absent."""
    statuses: Mapping[str, str]
    """Status of every verifier."""
    reasons: Mapping[str, str]
    """Reason of every verifier."""


@dataclass(frozen=True)
class TaskMix:
    """How one task is scored."""

    weights: Mapping[str, float]
    """verifier -> weight, 0 or more. Weight 0 is measured and recorded, but neither counts nor masks."""
    gate: str | None = None
    needed: frozenset[str] = field(init=False)
    """Verifiers whose failure masks the rollout: those with a weight, and the gate."""

    def __post_init__(self) -> None:
        counted = {name for name, weight in self.weights.items() if weight > 0}
        object.__setattr__(self, "needed", frozenset(counted | ({self.gate} if self.gate else set())))

    @property
    def verifiers(self) -> tuple[str, ...]:
        """All verifiers to run, gate first."""
        return tuple(dict.fromkeys(([self.gate] if self.gate else []) + list(self.weights)))


class Mixture:
    """The mixture of one pack.

    Args:
        manifest_tasks: `tasks` of the pack's manifest: task -> {"verifiers": {name: weight}, "gate": name or null}.
        overrides: `mixture` of the build: task -> verifier -> weight, laid over the manifest's.
        known: the pack's verifier names, when they are known; by default those that the manifest names anywhere.

    Raises:
        ConfigError: naming the key and the remedy.
    """

    def __init__(
        self,
        manifest_tasks: Mapping[str, Mapping[str, Any]],
        overrides: Mapping[str, Mapping[str, float]] | None = None,
        known: Iterable[str] | None = None,
    ) -> None:
        overrides = overrides or {}
        if not manifest_tasks:
            raise ConfigError("the pack's manifest has no `tasks`; rewards need at least one. Add it to pack.yaml.")
        for task in overrides:
            if task not in manifest_tasks:
                raise ConfigError(f"mixture.{task}: the pack has no task '{task}'.{near_miss(task, manifest_tasks)} "
                                  f"Tasks: {', '.join(manifest_tasks)}.")  # fmt: skip
        names = set(known) if known is not None else _named(manifest_tasks)
        self.tasks: dict[str, TaskMix] = {
            task: _task_mix(task, row, overrides.get(task) or {}, names) for task, row in manifest_tasks.items()
        }

    def of(self, task: str) -> TaskMix:
        """The mix of one task. Raises ConfigError when the task is unknown: there is no default reward."""
        if task not in self.tasks:
            raise ConfigError(
                f"a sample has the task '{task}', which the pack's manifest does not know.{near_miss(task, self.tasks)} "
                f"Tasks: {', '.join(self.tasks)}. Add it to `tasks` in pack.yaml, or mend the loader."
            )
        return self.tasks[task]

    def verifiers_for(self, task: str) -> tuple[str, ...]:
        """Names of the verifiers to run on a completion of this task."""
        return self.of(task).verifiers

    def main_verifier(self, task: str) -> str:
        """The verifier that weighs most (ties: the first in the manifest); its status says whether an answer is right."""
        weights = self.of(task).weights
        return max(weights, key=lambda name: weights[name])

    def combine(self, task: str, verdicts: Mapping[str, Verdict]) -> Reward:
        """One scalar from the verdicts of one completion.

        Raises:
            RewardError: a verdict that the task needs is missing; a missing verifier is never rewarded.
        """
        mix = self.of(task)
        missing = [name for name in mix.verifiers if name not in verdicts]
        if missing:
            raise RewardError(
                f"task '{task}' needs a verdict of {', '.join(missing)}, but got only {', '.join(verdicts) or 'none'}. "
                "Run all of Mixture.verifiers_for(task)."
            )
        used = {name: verdicts[name] for name in mix.verifiers}
        parts: dict[str, float] = {}
        for name, verdict in used.items():
            if not verdict.status.is_masked:
                parts[name] = float(verdict.score)
                parts |= {f"{name}/{part}": float(score) for part, score in verdict.parts.items()}
        masked = any(used[name].status.is_masked for name in mix.needed)
        gated = mix.gate is not None and not used[mix.gate].status.is_masked and used[mix.gate].score == 0.0
        value = 0.0
        if not (masked or gated):
            total = sum(mix.weights.values())
            # Divided first, so that weights near the largest float cannot overflow; fsum, so that order does not matter.
            value = math.fsum(weight / total * used[name].score for name, weight in mix.weights.items() if weight > 0)
        return Reward(
            min(1.0, max(0.0, value)), masked, gated, parts,
            {name: verdict.status.value for name, verdict in used.items()},
            {name: verdict.reason for name, verdict in used.items()},
        )  # fmt: skip


def _named(manifest_tasks: Mapping[str, Mapping[str, Any]]) -> set[str]:
    names: set[str] = set()
    for row in manifest_tasks.values():
        if isinstance(row, Mapping):
            weights = row.get("verifiers")
            names |= set(weights) if isinstance(weights, Mapping) else set()
            names |= {row["gate"]} if row.get("gate") else set()
    return names


def _task_mix(task: str, row: Mapping[str, Any], override: Mapping[str, float], known: set[str]) -> TaskMix:
    listed = row.get("verifiers") if isinstance(row, Mapping) else None
    if not isinstance(listed, Mapping) or not listed:
        raise ConfigError(f"tasks.{task}.verifiers must map at least one verifier to its weight, got {listed!r}. Mend pack.yaml.")
    if not isinstance(override, Mapping):
        raise ConfigError(f"mixture.{task} must map verifiers to weights, got {override!r}. Set mixture.{task}.NAME=WEIGHT.")
    keys = {name: f"tasks.{task}.verifiers.{name}" for name in listed} | {name: f"mixture.{task}.{name}" for name in override}
    weights = {name: _weight(keys[name], name, weight, known) for name, weight in {**listed, **override}.items()}
    gate = row.get("gate")
    if gate is not None and gate not in known:
        raise ConfigError(
            f"tasks.{task}.gate is '{gate}', which is no verifier of the pack.{near_miss(str(gate), known)} Name one, or null."
        )
    total = sum(weights.values())
    if not 0.0 < total < math.inf:
        raise ConfigError(
            f"the weights of task '{task}' ({', '.join(keys.values())}) sum to {total:g}; they must sum to a finite number "
            f"above 0. Give one of them a positive weight."
        )
    return TaskMix(weights, gate)


def _weight(key: str, name: str, weight: Any, known: set[str]) -> float:
    if name not in known:
        raise ConfigError(
            f"{key}: the pack has no verifier '{name}'.{near_miss(name, known)} Use one of: {', '.join(sorted(known))}."
        )
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
        raise ConfigError(f"{key} is {weight!r}; weights are finite numbers, 0 or more. Set it to 0 to leave it out.")
    return float(weight)
