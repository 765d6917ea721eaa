"""Align3: one thinking trace with three staged instructions, then the answer. arXiv 2509.14760; techniques B13.1.

First meet the behaviour specification, then the safety specification, then audit everything together. The instructions are inserted into
the trace; verifiers are shown the model's own thoughts and its answer, not the inserted text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.contracts import Sample
from factory.rewards.formats import Shape
from factory.stages.eval.deliberate.force_answer import closing_of
from factory.stages.eval.deliberate.protocol import Deliberated, Draw, Engine, Piece, Request

BEHAVIOUR = "First I think about how my answer can meet this behaviour specification:\n{behaviour}\n\n"
SAFETY = "\n\nNext I check my thoughts against this safety specification, and change what breaks it:\n{safety}\n\n"
AUDIT = "\n\nLast I audit my answer against both specifications together, rule by rule, and mend what still fails.\n\n"


@dataclass(frozen=True)
class Align3:
    """Three stages of at most `thinking` tokens each, then at most `answer_tokens`."""

    behaviour: str
    """Text of the behaviour specification."""
    safety: str
    thinking: int
    answer_tokens: int
    shape: Callable[[Sample], Shape]
    temperature: float = 0.0

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[Deliberated]:
        """Each stage goes on where the one before stopped; a mark that ends the thinking early is taken out."""
        shapes = [self.shape(sample) for sample in samples]
        traces: list[tuple[Piece, ...]] = [(_opening_of(shape),) for shape in shapes]
        thoughts: list[list[str]] = [[] for _ in samples]
        tokens = [0] * len(samples)
        for name, instruction in zip(("behaviour", "safety", "audit"), self._instructions(), strict=True):
            traces = [(*trace, instruction) for trace in traces]
            drawn = self._write(engine, samples, traces, name, self.thinking)
            for index, draw in enumerate(drawn):
                piece = _thought(draw, shapes[index])
                traces[index] = (*traces[index], piece)
                thoughts[index].append((piece if isinstance(piece, str) else piece.text).strip())
                tokens[index] += draw.tokens
        traces = [(*trace, closing_of(shape)) for trace, shape in zip(traces, shapes, strict=True)]
        answers = self._write(engine, samples, traces, "answer", self.answer_tokens)
        return [
            Deliberated(
                _opening_of(shape) + "\n".join(own) + closing_of(shape) + draw.text, spent + draw.tokens, draw.finished,
                trace=(*(piece if isinstance(piece, str) else piece.text for piece in trace), draw.text),
            )
            for shape, own, draw, spent, trace in zip(shapes, thoughts, answers, tokens, traces, strict=True)
        ]  # fmt: skip

    def _instructions(self) -> tuple[str, str, str]:
        # str.replace, because a specification may hold braces.
        return BEHAVIOUR.replace("{behaviour}", self.behaviour), SAFETY.replace("{safety}", self.safety), AUDIT

    def _write(
        self, engine: Engine, samples: Sequence[Sample], openings: Sequence[tuple[Piece, ...]], name: str, most: int
    ) -> list[Draw]:
        requests = [Request.of(sample, opening=opening) for sample, opening in zip(samples, openings, strict=True)]
        marks = {shape.thinking[1] for shape in map(self.shape, samples) if shape.thinking}
        stop = marks.pop() if name != "answer" and len(marks) == 1 else ""
        drawn = engine.generate(requests, purpose=name, max_new_tokens=most, temperature=self.temperature, stop=stop)
        return [draws[0] for draws in drawn]


def _opening_of(shape: Shape) -> str:
    if shape.thinking is None:
        return ""
    return f"{shape.thinking[0]}\n" if shape.is_heading else shape.thinking[0]


def _thought(draw: Draw, shape: Shape) -> Piece:
    """What was written before the thinking was ended; exactly the sampled tokens when it was not."""
    marks = "|".join(re.escape(mark) for mark in shape.thinking or ())
    hit = re.search(marks, draw.text, re.IGNORECASE) if marks else None
    if hit is not None:
        return draw.text[: hit.start()]
    return draw.text if draw.finished else draw
