"""verifiers-style environments: rows with a prompt and an answer, and a rubric of weighted reward functions.

The interface of `verifiers` up to 0.1: `env.dataset` (or `get_dataset()`), `env.rubric` with `reward_funcs`/`funcs` and
`reward_weights`/`weights`; each function takes, by name, any of prompt, completion, answer, info, task, state, parser.
Release 0.4 replaced it by traces and runtimes with some 50 dependencies; that is not bridged.
Multi-turn environments are not: their reward depends on an environment's turns, which belong in a rollout hook.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, PluginError
from factory.rewards.bridges.bridge import FULL, make_sample, origin_of, split_of


def _environment(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as err:
        raise PluginError(f"environment '{target}' cannot be imported: {err}. Write MODULE:NAME.") from err
    return made() if isinstance(made, type) or not hasattr(made, "rubric") else made


def _rubric(env: Any) -> tuple[list[Any], list[float]]:
    rubric = env.rubric
    funcs = list(getattr(rubric, "funcs", None) or getattr(rubric, "reward_funcs", None) or [])
    weights = list(getattr(rubric, "weights", None) or getattr(rubric, "reward_weights", None) or [1.0] * len(funcs))
    if not funcs or len(funcs) != len(weights) or any(not math.isfinite(w) or w < 0 for w in weights) or not sum(weights):
        raise ConfigError(
            f"a bridged rubric needs functions with weights of 0 or more, got {len(funcs)} functions and the weights {weights}. "
            "A penalty (negative weight) cannot be a score in [0, 1]; turn it into a reward of its own."
        )
    return funcs, [float(w) for w in weights]


@dataclass(frozen=True)
class RubricVerifier:
    """The weighted mean of the rubric's functions; each must return a number in [0, 1]."""

    targets: Mapping[str, str]
    """environment name -> `module:NAME` of an environment, or of a function that makes one."""
    name: str = "rubric"
    version: str = "1"
    """Raise it when an environment's code changes."""
    _made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises what a function raises, and ValueError for a value that is no number in [0, 1]."""
        origin = origin_of(sample, self.name)
        if origin["env"] not in self._made:
            self._made[origin["env"]] = _environment(self.targets[origin["env"]])
        env = self._made[origin["env"]]
        funcs, weights = _rubric(env)
        row = origin["row"]
        prompt = [{"role": m.role, "content": m.content} for m in sample.messages]
        said = [{"role": "assistant", "content": completion}]
        known = {
            **row, "prompt": prompt, "completion": said, "answer": sample.reference, "info": row.get("info") or {}, "task": sample.task,
            "parser": getattr(env.rubric, "parser", None) or getattr(env, "parser", None),
            "state": {"prompt": prompt, "completion": said, "answer": sample.reference, "info": row.get("info") or {}, "responses": []},
        }  # fmt: skip
        parts = {}
        for number, func in enumerate(funcs):
            label = getattr(func, "__name__", f"function_{number}")
            value = _call(func, known)
            if isinstance(value, bool | int | float) and 0 <= float(value) <= 1:
                parts[label if label not in parts else f"{label}_{number}"] = float(value)
                continue
            raise ValueError(f"{origin['env']}: {label} returned {value!r}, want a number in [0, 1]")
        total = sum(weights)
        score = math.fsum(w / total * value for w, value in zip(weights, parts.values(), strict=True))
        told = ", ".join(f"{label} {value:g}" for label, value in parts.items())
        is_full = score >= FULL
        return Verdict(1.0 if is_full else score, Status.ok if is_full else Status.wrong, f"{origin['env']}: {told}", parts)


def _call(func: Any, known: Mapping[str, Any]) -> Any:
    """Call with those arguments that the function names (all of them when it takes `**kwargs`); async functions are run."""
    wanted = inspect.signature(func).parameters.values()
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in wanted)
    names = set(known) if takes_all else {one.name for one in wanted} & set(known)
    found = func(**{name: known[name] for name in names})
    return asyncio.run(found) if inspect.iscoroutine(found) else found


@dataclass(frozen=True)
class Rubrics:
    """Tasks from environments; the routing task is `rubric/<name>`."""

    targets: Mapping[str, str]
    name: str = "rubric"

    def tasks(self) -> dict[str, str]:
        """See `Bridge`."""
        return {f"rubric/{name}": f"environment {target}" for name, target in self.targets.items()}

    def samples(self, task: str, split: str, seed: int) -> Iterator[Sample]:
        """See `Bridge`. Rows in the environment's own order; `prompt` is a text or messages, else `question` is asked."""
        name = task.partition("/")[2]
        env = _environment(self.targets[name])
        rows = env.get_dataset() if hasattr(env, "get_dataset") else env.dataset
        for number, row in enumerate(rows):
            row = dict(row)
            said = row.pop("prompt", None) or row.get("question")
            text = said if isinstance(said, str) else "\n".join(str(turn["content"]) for turn in said)
            if split_of(text) == split:
                yield make_sample(
                    task, text, row.pop("answer", None), {"env": name, "row": row}, split=split, source=f"{name}:{number}"
                )

    def verifier(self) -> RubricVerifier:
        """See `Bridge`."""
        return RubricVerifier(dict(self.targets), self.name)

    def gold(self, sample: Sample) -> str | None:
        """The interface has no gold completion: the answer's form is each environment's own."""
        return None
