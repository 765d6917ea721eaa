"""lm-eval tasks: `doc_to_text`, `doc_to_target`, `process_results`. Only tasks that generate; choice tasks compare likelihoods.

Any object with these methods will do, so a task can be made without the library's registry.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, PluginError
from factory.rewards.bridges.bridge import answer_in, make_sample, origin_of, score_verdict, split_of

SPLITS = (("train", "training"), ("validation", "validation"), ("test", "test"))


def _task(target: str) -> Any:
    """The task at `module:NAME` (an object, or what makes one), or `lm_eval:NAME` from the library's registry."""
    module, _, name = target.partition(":")
    try:
        if module == "lm_eval":
            from lm_eval.tasks import get_task_dict

            return get_task_dict([name])[name]
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, KeyError) as err:
        raise PluginError(f"lm-eval task '{target}' cannot be had: {err}. Write MODULE:NAME, or install lm-eval.") from err
    return made() if isinstance(made, type) or not hasattr(made, "doc_to_text") else made


@contextmanager
def _unlisted_torch() -> Iterator[None]:
    """While a task is made in a pool worker: `datasets` takes the worker's ban (torch listed as None) for a loaded torch."""
    is_banned = sys.modules.get("torch", ...) is None
    if is_banned:
        del sys.modules["torch"]
    try:
        yield
    finally:
        if is_banned:
            sys.modules["torch"] = None  # type: ignore[assignment]


def _checked(target: str) -> Any:
    with _unlisted_torch():
        task = _task(target)
    kind = getattr(task, "OUTPUT_TYPE", None) or "generate_until"
    if kind != "generate_until":
        raise ConfigError(
            f"lm-eval task '{target}' has output_type {kind}; a reward needs a task that generates (generate_until)."
        )
    return task


@dataclass(frozen=True)
class LmEvalVerifier:
    """One metric of `process_results(doc, [completion])`."""

    targets: Mapping[str, str]
    """task name -> target."""
    metrics: Mapping[str, str]
    """task name -> metric to pay."""
    shape: str = "whole"
    """`whole`: the task extracts the answer itself; else an output shape whose answer it is given."""
    partial: bool = False
    name: str = "lm_eval"
    version: str = "1"
    """Raise it when a task's code changes."""
    _made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises what the task raises; ConfigError when it has no such metric."""
        origin = origin_of(sample, self.name)
        name = origin["lm_eval"]
        answer, fault = answer_in(completion, self.shape)
        if answer is None:
            return Verdict(0.0, Status.unparsable, fault)
        if name not in self._made:
            self._made[name] = _checked(self.targets[name])
        found = self._made[name].process_results(origin["doc"], [answer])
        metric = self.metrics[name]
        if metric not in found:
            raise ConfigError(
                f"lm-eval task '{name}' has no metric '{metric}'; it has {', '.join(map(str, found))}. Name one of them."
            )
        return score_verdict(found[metric], partial=self.partial, what=f"{name} {metric}")


@dataclass(frozen=True)
class LmEvalTasks:
    """Tasks by name -> target; the routing task is `lm_eval/<name>`.

    Rows of a task's own splits keep them. With a single split, which a benchmark would call its test split, rows are split by
    hash: training on a benchmark's rows ends its use as one, so keep it out of the eval.
    """

    targets: Mapping[str, str]
    metrics: Mapping[str, str]
    shape: str = "whole"
    partial: bool = False
    name: str = "lm_eval"

    def tasks(self) -> dict[str, str]:
        """See `Bridge`."""
        return {f"lm_eval/{name}": f"lm-eval {target}" for name, target in self.targets.items()}

    def samples(self, task: str, split: str, seed: int) -> Iterator[Sample]:
        """See `Bridge`."""
        name = task.partition("/")[2]
        made = _checked(self.targets[name])
        own = [ours for ours, theirs in SPLITS if getattr(made, f"has_{theirs}_docs")()]
        for ours, theirs in SPLITS:
            if ours not in own or (len(own) > 1 and ours != split):
                continue
            for number, doc in enumerate(getattr(made, f"{theirs}_docs")()):
                prompt = made.doc_to_text(doc)
                if len(own) > 1 or split_of(prompt) == split:
                    plain = json.loads(json.dumps(dict(doc)))
                    yield make_sample(
                        task,
                        prompt,
                        made.doc_to_target(doc),
                        {"lm_eval": name, "doc": plain},
                        split=split,
                        source=f"{name}:{theirs}:{number}",
                    )

    def verifier(self) -> LmEvalVerifier:
        """See `Bridge`."""
        return LmEvalVerifier(dict(self.targets), dict(self.metrics), self.shape, self.partial, self.name)

    def gold(self, sample: Sample) -> str | None:
        """The target, as the task states it."""
        return sample.reference if isinstance(sample.reference, str) else None
