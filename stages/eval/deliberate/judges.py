"""Who chooses in best-of-n: a verifier of the pack, blinded to the reference where it can be, or a reward model."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from factory.contracts import Eval, RunContext, Sample, Verdict, Verifier
from factory.rewards.pool import VerifierPool
from factory.stages.eval.deliberate.best_of import Judge
from factory.stages.eval.deliberate.grammar import Deliberation

log = logging.getLogger(__name__)

PROBED = 16
"""Samples on which a verifier is asked whether its verdict depends on the reference."""


@dataclass(frozen=True)
class Appointed:
    """A judge, and how its choice must be called."""

    judge: Judge
    label: str
    notes: tuple[str, ...] = ()


def find_judge(
    wanted: Deliberation, ctx: RunContext, pool: VerifierPool, evaluation: Eval, verifiers: Mapping[str, Verifier],
    samples: Sequence[Sample],
) -> Appointed:  # fmt: skip
    """The judge that `best_of` names. One that sees the reference is an oracle: labelled pass@n, and warned about."""
    n, name = wanted.count, wanted.options["verifier"]
    if name:
        # A verifier may fail without a reference; those errors must not stop the measurement, so they are counted apart.
        with VerifierPool(ctx.domain, **{**ctx.build["pool"], "max_error_rate": 1.0}) as apart:
            is_oracle = name == evaluation.verifier or sees_reference(apart, name, verifiers[name], samples)
        judge, who = verifier_judge(pool, name, is_oracle=is_oracle), f"verifier '{name}'"
    else:
        from factory.stages.models.scorer import load_scorer

        scorer = load_scorer(wanted.options["scorer"], precision=ctx.build["precision"])
        judge, who, is_oracle = scorer_judge(scorer), "reward model", scorer.settings.show_reference
    if not is_oracle:
        return Appointed(judge, f"best of {n} by {who}")
    note = (
        f"the {who} sees the reference, so it can choose the right draw whenever there is one: this is an upper bound (pass@{n}), "
        "not what a user without references would get. Use a verifier of form, or a reward model that reads no reference."
    )
    log.warning("%s", note)
    return Appointed(judge, f"oracle (pass@{n})", (note,))


def verifier_judge(pool: VerifierPool, name: str, *, is_oracle: bool) -> Judge:
    """Scores of one verifier. Unless it is an oracle the reference is taken out of every sample first, so it cannot be seen."""

    def judge(pairs: Sequence[tuple[Sample, str]]) -> list[float | None]:
        shown = [(text, sample if is_oracle else replace(sample, reference=None), [name]) for sample, text in pairs]
        return [_score(row[name]) for row in pool.score(shown)]

    return judge


def scorer_judge(scorer: Any) -> Judge:
    """Scores of a reward model (`factory.stages.models.scorer.Scorer`); those of a cost model are turned round."""
    sign = -1.0 if scorer.settings.objective == "cost" else 1.0

    def judge(pairs: Sequence[tuple[Sample, str]]) -> list[float | None]:
        return [sign * float(score) for score in scorer.score(pairs)]

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
