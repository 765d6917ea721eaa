"""The pieces that change nothing: what stands in a slot when no preset or setting names another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group


@piece("format", "pack", formula="the prompt as the pack wrote it", source="domain pack")
@dataclass(frozen=True)
class PackFormat:
    """Prompt and answer form are the pack's own."""

    def render(self, sample: Sample) -> Sample:
        """The sample itself."""
        return sample

    def read(self, text: str) -> Mapping[str, str]:
        """No fields."""
        return {}


@piece("mixer", "weighted", formula="gate * sum_k w_k r_k / sum_k w_k + shaping", source="Mixture-of-Rewards; routes by task")
@dataclass(frozen=True)
class Weighted:
    """The mixture's scalar (routed by task, gated, weighted in factory/rewards/mixture.py) plus the added terms."""

    def mix(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `mixed` of every rollout that is not masked."""
        for group in groups:
            for rollout in group.live():
                rollout.mixed = rollout.value + math.fsum(rollout.shaping.values())


@piece(
    "reference",
    "start",
    formula="the policy at the start of the stage",
    source="RLHF practice; the adapter switched off with LoRA",
)
@dataclass(frozen=True)
class StartReference:
    """A frozen copy, or the base under the adapter."""


@piece("kl_schedule", "constant", formula="beta", source="GRPO: DeepSeekMath, arXiv 2402.03300")
@dataclass(frozen=True)
class ConstantKl:
    """The KL piece's own coefficient throughout."""

    def coef(self, ctx: StepContext, base: float) -> float:
        """`base`."""
        return base
