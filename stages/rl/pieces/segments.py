"""Segments that bring the text nearer to where it ends weigh more. Ours: a text form of step credit by final similarity.

The idea comes from image generation, where one reward is spread over the denoising steps by how much each moves the image
towards the final one (guides B3.9). Here a step is a line of the completion, and nearness is the cosine of word counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.answer_text import tokens_before
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout


def cosine(one: Counter[str], other: Counter[str]) -> float:
    """Cosine of two word counts, in [0, 1]; 0 when one is empty."""
    dot = math.fsum(count * other[word] for word, count in one.items())
    norm = math.sqrt(math.fsum(c * c for c in one.values()) * math.fsum(c * c for c in other.values()))
    return dot / norm if norm else 0.0


def line_gains(lines: Sequence[str]) -> list[float]:
    """How much nearer to the whole text each line brings it, 0 or more."""
    whole = Counter(word for line in lines for word in line.lower().split())
    so_far, before, gains = Counter[str](), 0.0, []
    for line in lines:
        so_far.update(line.lower().split())
        near = cosine(so_far, whole)
        gains.append(max(near - before, 0.0))
        before = near
    return gains


def token_weights(gains: Sequence[float], lengths: Sequence[int], floor: float) -> list[float]:
    """Per token `floor + (1 - floor) * share of the gain / share of the tokens`: mean 1 over the tokens. Ones without any gain."""
    written = [(gain, length) for gain, length in zip(gains, lengths, strict=True) if length]
    # A line without a token of its own (a token wrote its end with the next line's beginning) has nothing to weigh.
    total, num_tokens = math.fsum(gain for gain, _ in written), sum(lengths)
    if not total:
        return [1.0] * num_tokens
    return [floor + (1.0 - floor) * (gain / total) * num_tokens / length for gain, length in written for _ in range(length)]


@piece(
    "token_weight", "line_gain", formula="floor + (1 - floor) * gain share / token share of the line; gain = rise of cos(words so far, all)",
    source="ours, after step-level credit by final similarity in image generation (guides B3.9)",
)  # fmt: skip
@dataclass(frozen=True)
class LineGain:
    """The advantage of a rollout is spread over its lines; its mean weight stays 1."""

    floor: float = 0.5
    """Weight of a line that brings nothing, in [0, 1); no source has a value."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise ValueError("floor must be in [0, 1).")

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Multiply the token weights of all one-turn rollouts that have something to learn."""
        for group in groups:
            for rollout in group.live():
                if rollout.ids and not rollout.spans and (rollout.advantage or any(rollout.token_advantages)):
                    before = rollout.token_weights or [1.0] * len(rollout.ids)
                    weights = self._weights(ctx, rollout)
                    rollout.token_weights = [a * b for a, b in zip(before, weights, strict=True)]

    def _weights(self, ctx: StepContext, rollout: Rollout) -> list[float]:
        assert ctx.services is not None, "a run has services"
        lines = ctx.services.decode(rollout.ids).splitlines(keepends=True)
        ends, at = [], 0
        for line in lines:
            at += len(line)
            ends.append(tokens_before(ctx.services.decode, rollout.ids, at))
        if not ends:
            return [1.0] * len(rollout.ids)
        # The end-of-turn token writes nothing; it belongs to the last line.
        ends[-1] = len(rollout.ids)
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return token_weights(line_gains(lines), lengths, self.floor)
