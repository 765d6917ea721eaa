"""Majority vote: draw n texts, give the answer that most of them give. Self-consistency, arXiv 2203.11171; techniques B13.2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.stages.eval.deliberate.protocol import Deliberated, Draw, Engine, Request


def vote(keys: Sequence[str | None]) -> tuple[int, dict[str, int]]:
    """(index of the winning draw, answer -> votes).

    The winner is the first draw with the answer that has most votes. On a tie that is the answer which first reached so many:
    A B B A gives B. Draws without an answer (None) do not count; when all are, the first draw stands.
    """
    votes: dict[str, int] = {}
    winner, most = None, 0
    for key in keys:
        if key is None:
            continue
        votes[key] = votes.get(key, 0) + 1
        if votes[key] > most:
            winner, most = key, votes[key]
    return (0 if winner is None else list(keys).index(winner)), votes


@dataclass(frozen=True)
class Majority:
    """`draws` texts per sample, one vote each."""

    draws: int
    max_new_tokens: int
    key: Callable[[Draw, Sample], str | None]
    """Which answer a draw gives."""
    temperature: float = 1.0

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[Deliberated]:
        """The first draw with the winning answer, for each sample."""
        drawn = engine.generate(
            [Request.of(sample) for sample in samples], purpose="draw", max_new_tokens=self.max_new_tokens,
            temperature=self.temperature, num_return=self.draws,
        )  # fmt: skip
        return [self._settle(sample, draws) for sample, draws in zip(samples, drawn, strict=True)]

    def _settle(self, sample: Sample, draws: Sequence[Draw]) -> Deliberated:
        index, votes = vote([self.key(draw, sample) for draw in draws])
        return Deliberated(
            draws[index].text, sum(draw.tokens for draw in draws), draws[index].finished, votes=votes,
            trace=tuple(draw.text for draw in draws),
        )  # fmt: skip
