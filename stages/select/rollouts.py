"""One verified completion, and what the completions of one prompt say together. No torch.

K = rollouts of a prompt that no failed verifier masked, M = such rollouts without the images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from factory.stages.lesson_files import PromptStat
from factory.stages.select.need import rap_d

TOLERANCE = 1e-9
"""A mixture of full scores may come out as 0.9999999999999999."""


@dataclass(frozen=True)
class Scored:
    """One completion with its reward: a line of rollouts.jsonl."""

    sample: str
    """Id of the sample."""
    index: int
    blind: bool
    """Rolled out without the images; judged against the same reference."""
    text: str
    value: float
    """Mixture value in [0, 1]; 0 when masked, which is not a reward of 0."""
    masked: bool
    """A verifier failed on it: it counts nowhere."""
    tokens: int
    finished: bool
    """False: cut off by max_new_tokens."""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Scored:
        """Inverse of `to_json`."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})


def is_right(rollout: Scored, right_from: float) -> bool:
    """True for an unmasked rollout whose value reaches `right_from`."""
    return not rollout.masked and rollout.value >= right_from - TOLERANCE


def measure_prompt(sample_id: str, rollouts: Sequence[Scored], right_from: float, *, is_text_only: bool = False) -> PromptStat:
    """Pass rate, reward variance, length and (with blind rollouts) RAP's D of one prompt; nothing is chosen yet.

    Args:
        rollouts: all of the prompt, blind ones too; their order does not matter.
        is_text_only: RAP is asked of a sample that has no image to leave out, hence its D is 0.
    """
    seen = [rollout for rollout in rollouts if not rollout.blind]
    blind = [rollout for rollout in rollouts if rollout.blind]
    rate, counted = _pass_rate(seen, right_from)
    blind_rate, _ = _pass_rate(blind, right_from)
    values = [rollout.value for rollout in seen if not rollout.masked]
    mean = math.fsum(values) / len(values) if values else 0.0
    gain = 0.0 if is_text_only else rap_d(rate, blind_rate) if rate is not None and blind_rate is not None else None
    return PromptStat(
        sample_id=sample_id, pass_rate=rate,
        variance=math.fsum((value - mean) ** 2 for value in values) / len(values) if values else None,
        kept=False, repeat=0, num_right=sum(is_right(rollout, right_from) for rollout in seen), num_counted=counted,
        num_masked=len(seen) - counted,
        mean_tokens=sum(rollout.tokens for rollout in seen) / len(seen) if seen else None,
        blind_pass_rate=blind_rate, rap_d=gain,
    )  # fmt: skip


def _pass_rate(rollouts: Sequence[Scored], right_from: float) -> tuple[float | None, int]:
    counted = [rollout for rollout in rollouts if not rollout.masked]
    right = sum(is_right(rollout, right_from) for rollout in counted)
    return (right / len(counted) if counted else None), len(counted)
