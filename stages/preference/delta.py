"""The shift of the BCO term: a running mean of the implicit rewards, carried from step to step and through a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RunningDelta:
    """`delta` of a step = mean of `beta D` over both responses of all pairs of the steps *before* it; 0 in the first.

    The original (BCO, arXiv 2404.04656; InternVL's MPO) also counts the micro-batch at hand. We leave it out, because the loss
    would then depend on how the step is split. In the first step both are 0: policy and reference are still the same.

    Args:
        is_on: False keeps delta at 0 (`delta: none`).
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on, self._sum, self._count = is_on, 0.0, 0.0

    @property
    def value(self) -> float:
        """The shift for the next step, in reward units."""
        return self._sum / self._count if self._is_on and self._count else 0.0

    def update(self, *, chosen_reward: float, rejected_reward: float, num_pairs: float) -> None:
        """Take in one step: the mean rewards of its pairs, over all processes."""
        self._sum += (chosen_reward + rejected_reward) * num_pairs
        self._count += 2 * num_pairs

    def state_dict(self) -> Mapping[str, Any]:
        """Sum and count so far."""
        return {"sum": self._sum, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._sum, self._count = float(state["sum"]), float(state["count"])
