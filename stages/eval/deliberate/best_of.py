"""Best of n: draw n texts, keep the one that a judge scores highest. Techniques B13.2.

The judge is a reward model, or a verifier that does not see the reference. With one that does, the choice is an oracle's: the figure
is pass@n, an upper bound that no deployed system reaches, and is labelled so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.stages.eval.deliberate.protocol import Deliberated, Draw, Engine, Request

Judge = Callable[[Sequence[tuple[Sample, str]]], list[float | None]]
"""Scores (sample, text) pairs; None where it failed."""


def best(scores: Sequence[float | None]) -> int:
    """Index of the highest score, the first on a tie; draws whose judge failed cannot win unless all failed."""
    able = [index for index, score in enumerate(scores) if score is not None]
    return max(able, key=lambda index: scores[index]) if able else 0  # type: ignore[arg-type, return-value]


@dataclass(frozen=True)
class BestOf:
    """`draws` texts per sample, one kept."""

    draws: int
    max_new_tokens: int
    judge: Judge
    temperature: float = 1.0

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[Deliberated]:
        """The draw that the judge likes most, for each sample. All draws are judged in one call."""
        drawn = engine.generate(
            [Request.of(sample) for sample in samples], purpose="draw", max_new_tokens=self.max_new_tokens,
            temperature=self.temperature, num_return=self.draws,
        )  # fmt: skip
        pairs = [(sample, draw.text) for sample, draws in zip(samples, drawn, strict=True) for draw in draws]
        scores = self.judge(pairs)
        return [self._settle(draws, scores[index * self.draws : (index + 1) * self.draws]) for index, draws in enumerate(drawn)]

    def _settle(self, draws: Sequence[Draw], scores: Sequence[float | None]) -> Deliberated:
        kept = draws[best(scores)]
        return Deliberated(
            kept.text, sum(draw.tokens for draw in draws), kept.finished, scores=tuple(scores),
            trace=tuple(draw.text for draw in draws),
        )  # fmt: skip
