"""verl reward functions as verifiers: `compute_score(data_source, solution_str, ground_truth, extra_info) -> float | {"score": ...}`.

The way back, our verifiers as verl's and TRL's reward functions, is `factory.interop.reward_functions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Verdict
from factory.rewards.bridges.bridge import FunctionVerifier


@dataclass(frozen=True)
class VerlVerifier(FunctionVerifier):
    """A verl reward function, called with one completion.

    It gets `data_source` (meta["data_source"], else the sample's source or task), the reference as `ground_truth`, and meta
    with `id` and `task` as `extra_info`.
    """

    name: str = "verl"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError for anything but a number or a mapping with `score`."""
        source = sample.meta.get("data_source") or sample.source or sample.task
        told = {**sample.meta, "id": sample.id, "task": sample.task, "split": sample.split}
        found: Any = self.function()(data_source=source, solution_str=completion, ground_truth=sample.reference, extra_info=told)
        score = found.get("score") if isinstance(found, Mapping) else found
        if isinstance(score, bool):
            score = float(score)
        return self.verdict(score)
