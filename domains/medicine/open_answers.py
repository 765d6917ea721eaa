"""Free answers of a few words, judged without a model."""

from __future__ import annotations

from dataclasses import dataclass

from factory.contracts import Sample, Verdict
from factory.rewards.answers import Synonyms, accepted
from factory.rewards.reader import graded, unparsable
from factory.rewards.sets import token_f1, words
from factory.rewards.verifiers import ClosedAnswer

MIN_PRECISION = 0.75
"""Share of the answer's words that must be the reference's, so that listing many answers earns nothing."""


@dataclass(frozen=True)
class OpenAnswer(ClosedAnswer):
    """1 when the answer equals an accepted one after synonyms; else the F1 of the sets of words, where most words are right."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        table: Synonyms = self._table  # type: ignore[attr-defined]
        wanted = accepted(sample.reference)
        want = " | ".join(wanted)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        got = words(answer)
        if not got:
            return unparsable("no word", want)
        if table.canonical(answer) in {table.canonical(text) for text in wanted}:
            return graded(1.0, 1.0, f"got {answer[:80]!r}, want {want[:80]!r}", {"exact": 1.0})
        f1, precision, recall = max(token_f1(got, words(text)) for text in wanted)
        score = min(f1, 0.99) if precision >= MIN_PRECISION else 0.0  # the same words in another order are not the answer
        parts = {"exact": 0.0, "f1": f1, "precision": precision, "recall": recall}
        return graded(score, 1.0, f"got {answer[:80]!r}, want {want[:80]!r}: F1 {f1:.3f}, precision {precision:.2f}", parts)
