"""Budget forcing: think for at most n tokens, then the end-of-thinking mark is inserted and the model answers. Techniques B7.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.rewards.formats import Shape
from factory.stages.eval.deliberate.protocol import Deliberated, Draw, Engine, Piece, Request


def closing_of(shape: Shape) -> str:
    """The text that ends the reasoning: the closing mark, on a line of its own where it is a heading."""
    mark = shape.thinking[1] if shape.thinking else ""
    return f"\n{mark}\n" if shape.is_heading else mark


def is_thinking(text: str, shape: Shape) -> bool:
    """True when the reasoning was opened and not closed."""
    if shape.thinking is None:
        return False
    opening, closing = (mark.casefold() for mark in shape.thinking)
    return opening in text.casefold() and closing not in text.casefold()


@dataclass(frozen=True)
class ForceAnswer:
    """At most `budget` tokens of thinking and `answer_tokens` after them."""

    budget: int
    answer_tokens: int
    shape: Callable[[Sample], Shape]
    temperature: float = 0.0

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[Deliberated]:
        """A text that ends by itself within the budget stands. Others go on; thoughts still open are closed first."""
        first = [
            draws[0]
            for draws in engine.generate(
                [Request.of(sample) for sample in samples], purpose="think", max_new_tokens=self.budget,
                temperature=self.temperature,
            )
        ]  # fmt: skip
        cut = [index for index, draw in enumerate(first) if not draw.finished]
        openings = {index: self._opening(first[index], samples[index]) for index in cut}
        rest = engine.generate(
            [Request.of(samples[index], opening=openings[index]) for index in cut], purpose="answer",
            max_new_tokens=self.answer_tokens, temperature=self.temperature,
        ) if cut else []  # fmt: skip
        endings = {index: draws[0] for index, draws in zip(cut, rest, strict=True)}
        return [self._settle(draw, openings.get(index, ()), endings.get(index)) for index, draw in enumerate(first)]

    def _opening(self, draw: Draw, sample: Sample) -> tuple[Piece, ...]:
        shape = self.shape(sample)
        return (draw, closing_of(shape)) if is_thinking(draw.text, shape) else (draw,)

    def _settle(self, first: Draw, opening: Sequence[Piece], ending: Draw | None) -> Deliberated:
        if ending is None:
            return Deliberated(first.text, first.tokens, first.finished, trace=(first.text,))
        parts = [*(piece if isinstance(piece, str) else piece.text for piece in opening), ending.text]
        return Deliberated("".join(parts), first.tokens + ending.tokens, ending.finished, trace=tuple(parts))
