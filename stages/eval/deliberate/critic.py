"""Critic loop: answer, criticise, revise, as often as asked; the last answer that can be read stands. Techniques B13.3.

After Critic-V (arXiv 2411.18203) and MMC: the critic is the same model, or a second one trained as a critic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.contracts import Message, Sample
from factory.stages.eval.deliberate.protocol import Deliberated, Draw, Engine, Request

CRITICISE = (
    "Criticise the answer above: name each mistake, each step that does not follow, and what was overlooked. Do not answer anew."
)
REVISE = "A critic says about your answer:\n{critique}\n\nAnswer the question again in the required form, mending what the critic is right about."


@dataclass(frozen=True)
class Critic:
    """`rounds` times critique and revision after the first draft."""

    rounds: int
    answer_tokens: int
    critique_tokens: int
    key: Callable[[Draw, Sample], str | None]
    """Which answer a draw gives."""
    critic: Engine | None = None
    """Who criticises; None: the engine that answers."""
    temperature: float = 0.0

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[Deliberated]:
        """The last revision (or the draft) that gives an answer; the draft when none does."""
        drafts = [self._write(engine, [Request.of(sample) for sample in samples], "draft", self.answer_tokens)]
        traces = [[draft.text] for draft in drafts[0]]
        tokens = [draft.tokens for draft in drafts[0]]
        for number in range(1, self.rounds + 1):
            asked = [self._after(sample, draft, CRITICISE) for sample, draft in zip(samples, drafts[-1], strict=True)]
            critiques = self._write(self.critic or engine, asked, f"critique-{number}", self.critique_tokens)
            # str.replace, because a critique may hold braces.
            asked = [
                self._after(sample, draft, REVISE.replace("{critique}", critique.text))
                for sample, draft, critique in zip(samples, drafts[-1], critiques, strict=True)
            ]
            drafts.append(self._write(engine, asked, f"revise-{number}", self.answer_tokens))
            for index, (critique, revised) in enumerate(zip(critiques, drafts[-1], strict=True)):
                traces[index] += [critique.text, revised.text]
                tokens[index] += critique.tokens + revised.tokens
        return [
            self._settle(sample, [row[index] for row in drafts], tokens[index], traces[index])
            for index, sample in enumerate(samples)
        ]

    def _write(self, engine: Engine, requests: Sequence[Request], purpose: str, most: int) -> list[Draw]:
        drawn = engine.generate(requests, purpose=purpose, max_new_tokens=most, temperature=self.temperature)
        return [draws[0] for draws in drawn]

    @staticmethod
    def _after(sample: Sample, draft: Draw, words: str) -> Request:
        return Request.of(sample, Message("assistant", draft.text), Message("user", words))

    def _settle(self, sample: Sample, drafts: Sequence[Draw], tokens: int, trace: Sequence[str]) -> Deliberated:
        readable = [draft for draft in drafts if self.key(draft, sample) is not None]
        kept = readable[-1] if readable else drafts[0]
        return Deliberated(kept.text, tokens, kept.finished, trace=tuple(trace))
