"""Who chooses in best-of-n: a verifier of the pack, blinded to the reference where it can be, or a reward model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from factory.contracts import Sample, Verdict
from factory.rewards.pool import VerifierPool
from factory.stages.eval.deliberate.best_of import Judge

PROBED = 16
"""Samples on which a verifier is asked whether its verdict depends on the reference."""


def verifier_judge(pool: VerifierPool, name: str, *, is_oracle: bool) -> Judge:
    """Scores of one verifier. Unless it is an oracle the reference is taken out of every sample first, so it cannot be seen."""

    def judge(pairs: Sequence[tuple[Sample, str]]) -> list[float | None]:
        shown = [(text, sample if is_oracle else replace(sample, reference=None), [name]) for sample, text in pairs]
        return [_score(row[name]) for row in pool.score(shown)]

    return judge


def scorer_judge(scorer: Any) -> Judge:
    """Scores of a reward model (`factory.stages.models.scorer`)."""

    def judge(pairs: Sequence[tuple[Sample, str]]) -> list[float | None]:
        return [float(score) for score in scorer.score(pairs)]

    return judge


def sees_reference(pool: VerifierPool, name: str, verifier: Any, samples: Sequence[Sample]) -> bool:
    """True when the verifier's verdict changes with the reference, or it says so itself (`needs_reference`).

    It is tried on texts that give the reference in several forms, once with the reference, once with that of another sample and
    once without. A gold answer hidden in `meta` is not noticed: such a verifier must set `needs_reference = True`.

    Args:
        pool: one that tolerates errors, since a verifier may fail without a reference.
    """
    declared = getattr(verifier, "needs_reference", None)
    if declared is not None:
        return bool(declared)
    probed = samples[:PROBED]
    rows: list[tuple[str, Sample, list[str]]] = []
    for index, sample in enumerate(probed):
        for text in _texts_with(sample.reference):
            for reference in (sample.reference, probed[index - 1].reference, None):
                rows.append((text, replace(sample, reference=reference), [name]))
    verdicts = [row[name] for row in pool.score(rows)]
    told = [(verdict.score, verdict.status) for verdict in verdicts]
    return any(len(set(told[start : start + 3])) > 1 for start in range(0, len(told), 3))


def _texts_with(reference: Any) -> tuple[str, ...]:
    said = reference if isinstance(reference, str) else json.dumps(reference)
    return f"<think>because of this</think><answer>{said}</answer>", f"<answer>{said}</answer>", f"\\boxed{{{said}}}", said


def _score(verdict: Verdict) -> float | None:
    return None if verdict.status.is_masked else verdict.score
