"""Mixture-of-Rewards: each sample is routed to its verifiers by `task`, gated, normalised and summed to one scalar.

    value = gate * sum_k w_k * score_k / sum_k w_k        in [0, 1]

The rule of `guides/domains.md` 9.4; all parts are kept. A rollout with a failed verdict (`error`, `timeout`) is *masked*:
it has no reward at all, which is not the same as a reward of 0.

Names in `tasks` and `mixture` may be patterns (`arith/*`); see `routing`. A *judge* (a model that scores, see `judges/`) is
a verifier whose share of a task's weights is capped, and whose score is 0 unless a rule of the task gave more than 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Status, Verdict
from factory.errors import ConfigError, RewardError, near_miss
from factory.rewards.routing import Routes


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
    judges: frozenset[str] = frozenset()
    """Those verifiers that are judges."""
    needed: frozenset[str] = field(init=False)
    """Verifiers whose failure masks the rollout: those with a weight, and the gate."""

    def __post_init__(self) -> None:
        counted = {name for name, weight in self.weights.items() if weight > 0}
        object.__setattr__(self, "needed", frozenset(counted | ({self.gate} if self.gate else set())))

    @property
    def verifiers(self) -> tuple[str, ...]:
        """All verifiers to run, gate first."""
        return tuple(dict.fromkeys(([self.gate] if self.gate else []) + list(self.weights)))

    @property
    def judge_gate(self) -> str | None:
        """The rule that must score above 0 before a judge counts: the gate, else the rule that weighs most."""
        rules = [name for name in self.weights if name not in self.judges]
        return self.gate or (max(rules, key=lambda name: self.weights[name]) if rules else None)


class Mixture:
    """The mixture of one pack.

    Args:
        manifest_tasks: `tasks` of the pack's manifest: task -> {"verifiers": {name: weight}, "gate": name or null}.
        overrides: `mixture` of the build: task -> verifier -> weight, laid over the manifest's.
        known: the pack's verifier names, when they are known; by default those that the manifest names anywhere.
        judges: judge -> largest share that it may have of a task's weights, in [0, 1].

    Raises:
        ConfigError: naming the key and the remedy.
    """

    def __init__(
        self,
        manifest_tasks: Mapping[str, Mapping[str, Any]],
        overrides: Mapping[str, Mapping[str, float]] | None = None,
        known: Iterable[str] | None = None,
        judges: Mapping[str, float] | None = None,
    ) -> None:
        overrides, judges = overrides or {}, judges or {}
        if not manifest_tasks:
            raise ConfigError("the pack's manifest has no `tasks`; rewards need at least one. Add it to pack.yaml.")
        routes, ruled = Routes(manifest_tasks), {task: row for task, row in manifest_tasks.items()}
        for task in overrides:
            key = routes.key_of(task)
            if key is None and not any(Routes([task]).key_of(one) for one in manifest_tasks):
                raise ConfigError(f"mixture.{task}: the pack has no task '{task}'.{near_miss(task, manifest_tasks)} "
                                  f"Tasks: {listed(manifest_tasks)}.")  # fmt: skip
            # A task or a narrower pattern of a manifest's pattern gets an entry of its own.
            if key is not None:
                ruled.setdefault(task, manifest_tasks[key])
        names = (set(known) if known is not None else _named(manifest_tasks)) | set(judges)
        laid = Routes(overrides)
        self.tasks: dict[str, TaskMix] = {
            task: _task_mix(task, row, overrides.get(laid.key_of(task) or "") or {}, names, judges) for task, row in ruled.items()
        }
        self._routes = Routes(self.tasks)
        self._found: dict[str, TaskMix] = dict(self.tasks)

    def of(self, task: str) -> TaskMix:
        """The mix of one task. Raises ConfigError when the task is unknown: there is no default reward."""
        mix = self._found.get(task)
        if mix is None:
            key = self._routes.key_of(task)
            if key is None:
                raise ConfigError(
                    f"a sample has the task '{task}', which the pack's manifest does not know.{near_miss(task, self.tasks)} "
                    f"Tasks: {listed(self.tasks)}. Add it to `tasks` in pack.yaml, or mend the loader."
                )
            mix = self._found[task] = self.tasks[key]
        return mix

    def verifiers_for(self, task: str) -> tuple[str, ...]:
        """Names of the verifiers to run on a completion of this task."""
        return self.of(task).verifiers

    def main_verifier(self, task: str) -> str:
        """The verifier that weighs most (ties: the first in the manifest); its status says whether an answer is right."""
        mix = self.of(task)
        rules = [name for name in mix.weights if name not in mix.judges] or list(mix.weights)
        return max(rules, key=lambda name: mix.weights[name])

    def judges_to_ask(self, task: str, verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
        """Judges of the task whose score can count, now that its rules have spoken; none when a rule failed or gave 0."""
        mix = self.of(task)
        if not mix.judges or any(verdicts[name].status.is_masked for name in mix.needed - mix.judges) or _is_shut(mix, verdicts):
            return ()
        return tuple(name for name in mix.weights if name in mix.judges)

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
        if mix.judges and _is_shut(mix, used):
            used |= dict.fromkeys(mix.judges, NOT_COUNTED)
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


NOT_COUNTED = Verdict(0.0, Status.wrong, "not counted: the task's rule scored 0")
"""A judge's verdict where the rules gave nothing. Whatever the judge said or failed at, it cannot pay or mask."""


def _is_shut(mix: TaskMix, verdicts: Mapping[str, Verdict]) -> bool:
    """True when the rule before the judges scored 0; where it failed there is no reward anyway."""
    gate = verdicts[mix.judge_gate] if mix.judge_gate else None
    return gate is None or (not gate.status.is_masked and gate.score == 0.0)


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for a message; a mixture may have thousands."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _named(manifest_tasks: Mapping[str, Mapping[str, Any]]) -> set[str]:
    names: set[str] = set()
    for row in manifest_tasks.values():
        if isinstance(row, Mapping):
            weights = row.get("verifiers")
            names |= set(weights) if isinstance(weights, Mapping) else set()
            names |= {row["gate"]} if row.get("gate") else set()
    return names


def _task_mix(
    task: str, row: Mapping[str, Any], override: Mapping[str, float], known: set[str], judges: Mapping[str, float]
) -> TaskMix:
    named = row.get("verifiers") if isinstance(row, Mapping) else None
    if not isinstance(named, Mapping) or not named:
        raise ConfigError(f"tasks.{task}.verifiers must map at least one verifier to its weight, got {named!r}. Mend pack.yaml.")
    if not isinstance(override, Mapping):
        raise ConfigError(f"mixture.{task} must map verifiers to weights, got {override!r}. Set mixture.{task}.NAME=WEIGHT.")
    keys = {name: f"tasks.{task}.verifiers.{name}" for name in named} | {name: f"mixture.{task}.{name}" for name in override}
    weights = {name: _weight(keys[name], name, weight, known) for name, weight in {**named, **override}.items()}
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
    mix = TaskMix(weights, gate, frozenset(set(weights) & set(judges)))
    _check_judges(task, mix, judges, keys)
    return mix


def _check_judges(task: str, mix: TaskMix, caps: Mapping[str, float], keys: Mapping[str, str]) -> None:
    """A judge may not stand alone, gate, or weigh more than its cap."""
    if mix.gate in caps:
        raise ConfigError(
            f"tasks.{task}.gate is the judge '{mix.gate}'; a gate must be a rule. Name a verifier of the pack, or null."
        )
    if not mix.judges:
        return
    judges = ", ".join(sorted(mix.judges))
    if mix.judge_gate is None:
        raise ConfigError(
            f"task '{task}' is scored by {judges} alone; a judge counts only behind a rule. Add a verifier or a gate."
        )
    total = sum(mix.weights.values())
    together, largest = sum(mix.weights[name] for name in mix.judges) / total, max(caps[name] for name in mix.judges)
    if len(mix.judges) > 1 and together > largest + 1e-9:
        raise ConfigError(
            f"the judges {judges} have {together:.0%} of task '{task}' together; their largest weight_cap is {largest:.0%}. "
            "Lower their weights: several judges fall for the same tricks."
        )
    for name in sorted(mix.judges):
        share = mix.weights[name] / total
        if share > caps[name] + 1e-9:
            raise ConfigError(
                f"{keys[name]} gives the judge '{name}' {share:.0%} of task '{task}'; judges.{name}.weight_cap allows {caps[name]:.0%}. "
                "Lower its weight, or raise the cap in full knowledge that a judge can be talked into a score."
            )


def _weight(key: str, name: str, weight: Any, known: set[str]) -> float:
    if name not in known:
        raise ConfigError(
            f"{key}: the pack has no verifier '{name}'.{near_miss(name, known)} Use one of: {listed(sorted(known))}."
        )
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
        raise ConfigError(f"{key} is {weight!r}; weights are finite numbers, 0 or more. Set it to 0 to leave it out.")
    return float(weight)
