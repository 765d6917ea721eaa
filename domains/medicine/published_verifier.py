"""MedEvalKit's rules as one verifier, by the type of the question. For evaluation beside other people's figures, not for training."""

from __future__ import annotations

from dataclasses import dataclass

from factory.contracts import Sample, Verdict
from factory.domains.medicine.published import (
    medevalkit_answer,
    medevalkit_choice,
    medevalkit_closed,
    medevalkit_f1,
    medevalkit_judgement,
)
from factory.rewards.answers import accepted, gold_letter, options_of
from factory.rewards.formats import parse
from factory.rewards.overlaps import rouge_l
from factory.rewards.reader import MAX_ANSWER_CHARS, graded, judged, unparsable
from factory.rewards.sets import words

TASKS = ("choice", "judgement", "closed", "open")
"""Tasks with a rule of MedEvalKit; reports need its sidecar's metrics (RaTEScore, GREEN, RadCliQ)."""


@dataclass(frozen=True)
class MedEvalKit:
    """Choice, judgement and closed: 0 or 1. Open: exact match, with word F1 and ROUGE-L in the parts."""

    name: str = "medevalkit"
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError for a task without a rule, or a faulty reference."""
        if sample.task not in TASKS:
            raise ValueError(f"sample {sample.id} has the task {sample.task!r}; MedEvalKit's rules are for {', '.join(TASKS)}")
        # The reasoning is cut off first, as its evaluation of reasoning models does.
        parsed = parse(completion, "think_answer", lenient=True)
        text = completion if parsed.thinking is None else completion.rpartition("</think>")[2]
        gold = sample.reference if isinstance(sample.reference, str) else " | ".join(accepted(sample.reference))
        answer = medevalkit_answer(text)
        if not answer or len(text) > MAX_ANSWER_CHARS:
            return unparsable("no answer" if not answer else "the answer is too long", gold)
        if sample.task == "choice":
            options = options_of(sample.meta.get("options"))
            letter = gold_letter(sample.reference, options)
            return judged(medevalkit_choice(text, options, letter), answer, letter)
        if sample.task == "judgement":
            return judged(medevalkit_judgement(text, gold), answer, gold)
        if sample.task == "closed":
            return judged(any(medevalkit_closed(text, one) for one in accepted(sample.reference)), answer, gold)
        return self._open(answer, accepted(sample.reference))

    def _open(self, answer: str, wanted: list[str]) -> Verdict:
        is_equal = any(answer.strip().lower() == text.strip().lower() for text in wanted)
        f1, precision, recall = max(medevalkit_f1(answer, text) for text in wanted)
        best = max(rouge_l(words(answer), words(text)) for text in wanted)
        parts = {"f1": f1, "precision": precision, "recall": recall, "rouge_l": best}
        return graded(float(is_equal), 1.0, f"got {answer[:80]!r}, want {' | '.join(wanted)[:80]!r}: F1 {f1:.3f}", parts)
