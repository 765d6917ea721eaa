"""What the pack measures: held-out accuracy by task, the same answers by MedEvalKit's rules, and a probe of the vision side."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import numpy as np

from factory.contracts import IMAGE, Eval, Media, ModelView, Sample
from factory.domains.medicine.phantoms import VALUES, draw_phantom
from factory.domains.medicine.published import Tally
from factory.domains.medicine.published_verifier import MedEvalKit
from factory.domains.medicine.render import render

ZERO_SHOT_IMAGES = 48
ANSWER_TYPES = {"choice": "choice", "judgement": "closed", "closed": "closed", "open": "open"}
"""Task -> MedEvalKit's answer type."""


def evals() -> dict[str, Eval]:
    """The pack's evals by name. Numerators and denominators stand beside every share."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("medevalkit", "probe", probe=medevalkit, needs_vision=False),
        Eval("zero_shot", "probe", probe=zero_shot),
    )
    return {evaluation.name: evaluation for evaluation in found}


def medevalkit(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """The answers of the primary eval by MedEvalKit's rules; empty when there are none that it has a rule for."""
    from factory.domains.medicine.pack import PACK

    return by_answer_type(PACK.samples(split, seed, view.request), view.answers)


def by_answer_type(samples: Iterable[Sample], answers: Mapping[str, str]) -> dict[str, float]:
    """Numerator, denominator and accuracy per answer type, and the total that they rebuild (MedEvalKit issue #21).

    Args:
        answers: sample id -> completion; samples without one are left out.

    Returns:
        `<type>/right`, `<type>/n`, `<type>/accuracy`; `open/f1` (mean word F1); and `accuracy` over all.
    """
    rule, tally, f1 = MedEvalKit(), Tally(), []
    for sample in samples:
        if sample.task in ANSWER_TYPES and sample.id in answers:
            verdict = rule(answers[sample.id], sample)
            tally.add(ANSWER_TYPES[sample.task], verdict.score)
            f1 += [verdict.parts.get("f1", 0.0)] if sample.task == "open" else []
    figures: dict[str, float] = {}
    for name, right, total, _ in tally.rows():
        figures |= {f"{name}/right": right, f"{name}/n": float(total), f"{name}/accuracy": right / total}
    if f1:
        figures["open/f1"] = float(np.mean(f1))
    return figures | ({"accuracy": tally.overall()} if figures else {})


def zero_shot(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Name each finding by the most likely value after "<image> finding".

    Returns:
        `<finding>/balanced_accuracy` per finding and their mean. Chance is 1 / number of values.
    """
    phantoms = [draw_phantom(random.Random(f"medicine-probe-{split}-{seed}-{i}")) for i in range(ZERO_SHOT_IMAGES)]
    media = [Media(data=render(phantom)) for phantom in phantoms]
    figures: dict[str, float] = {}
    for name, values in VALUES.items():
        rows = [i for i, phantom in enumerate(phantoms) if name in phantom.findings()]
        prompts = [(f"{IMAGE}\n{name}", (media[i],)) for i in rows for _ in values]
        scores = np.asarray(view.continuation_logprobs(prompts, [f" {value}" for _ in rows for value in values]))
        guesses = scores.reshape(len(rows), len(values)).argmax(axis=1)
        truth = np.array([values.index(phantoms[i].findings()[name]) for i in rows])
        recalls = [float((guesses[truth == one] == one).mean()) for one in np.unique(truth)]
        figures[f"{name}/balanced_accuracy"] = float(np.mean(recalls))
    figures["balanced_accuracy"] = float(np.mean(list(figures.values())))
    return figures
