"""What the pack measures: held-out accuracy, the figures of label tasks, and two probes that need no answer format.

The probes use the pack's own questions, so that they can be compared across builds and data.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from factory.contracts import Eval, ModelView, Sample
from factory.domains.biology import generator
from factory.domains.biology.answers import LabelAnswer
from factory.domains.biology.figures import classification, label_figures
from factory.domains.biology.generator import pose
from factory.domains.biology.options import Options
from factory.domains.biology.questions import Question
from factory.domains.biology.sequences import gc_count, reverse_complement, wallace
from factory.domains.biology.verifiers import aliases
from factory.rewards.formats import parse

LABEL_TASKS = ("effect", "regulation", "pathway", "region_class", "variant_disease")
"""Tasks whose answers are labels: macro-F1 and Matthews' correlation stand beside their accuracy."""
PROBED = 96
"""Questions of each task in the probes."""


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept; the report also splits it by task."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("labels", "probe", probe=labels),
        Eval("likeliest_label", "probe", probe=likeliest_label),
        Eval("strand_consistency", "probe", probe=strand_consistency),
    )
    return {evaluation.name: evaluation for evaluation in found}


@cache
def _labels() -> LabelAnswer:
    return LabelAnswer(name="label", aliases=aliases(), mode="lenient")


def label_said(completion: str) -> str:
    """The canonical label that a completion (or a bare label) gives; empty when it gives none."""
    answer = parse(completion, "think_answer", lenient=True).answer
    return _labels().canonical(answer) if answer else ""


def labels(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Figures of the label tasks from the answers of the primary eval: accuracy, macro precision, recall and F1, Matthews'
    correlation, and beside them the accuracy of always giving the commonest label.

    Returns:
        `<task>/<figure>`; nothing for a task without samples.
    """
    rows = [
        {"task": sample.task, "reference": sample.reference, "completion": view.answers[sample.id]}
        for sample in _samples(view, split, seed) if sample.id in view.answers
    ]  # fmt: skip
    return label_figures(rows, LABEL_TASKS, label_said)


def _samples(view: ModelView, split: str, seed: int) -> Iterable[Sample]:
    """The held-out samples that the primary eval asks."""
    if not view.request.paths:
        return generator.samples(split, seed, view.request)
    from factory.domains.biology.loaders import LOADER

    return LOADER.samples(view.request, split, seed)


def probe_questions(task: str, split: str, seed: int, count: int) -> list[Question]:
    """Terse questions of one task, shared with no corpus, lesson or sample of another split."""
    options = Options(shares={task: 1.0})
    return [pose(random.Random(f"biology-probe-{task}-{split}-{seed}-{i}"), split, options) for i in range(count)]


def likeliest_label(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Name the label by the largest likelihood after "question ;": effects of variants, directions and teaching diseases.

    Returns:
        `<task>/accuracy`, `.../macro_f1`, `.../mcc` and `.../majority`.
    """
    figures: dict[str, float] = {}
    for task in ("effect", "regulation", "pathway"):
        posed = probe_questions(task, split, seed, PROBED)
        known = list(posed[0].meta["labels"])
        chosen = _likeliest(view, [question.text for question in posed], known)
        found = classification([str(question.reference) for question in posed], [known[i] for i in chosen])
        figures |= {f"{task}/{name}": found[name] for name in ("accuracy", "macro_f1", "mcc", "majority")}
    return figures


def _likeliest(view: ModelView, texts: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """[N] index of the known label with the largest log-probability after each text and a semicolon."""
    prompts = [(f"{text} ;", ()) for text in texts for _ in known]
    flat = view.continuation_logprobs(prompts, [f" {label}" for _ in texts for label in known])
    return np.asarray(flat).reshape(len(texts), len(known)).argmax(axis=1)


def strand_consistency(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Whether a fact of the double strand gets the same answer on both strands: G+C count and melting temperature.

    Returns:
        `<task>/consistency`: share of sequences with equal answers on both strands; `<task>/chance`: the same if the answers of
        the two strands were drawn independently from what the model says; `<task>/accuracy`. A constant answer is wholly
        consistent, so consistency says something only above its chance.
    """
    figures: dict[str, float] = {}
    for task, word, rule in (("gc", "gc", gc_count), ("melting", "melt", wallace)):
        strands = [str(question.meta["sequence"]) for question in probe_questions(task, split, seed, PROBED)]
        values = sorted({rule(strand) for strand in strands})
        texts = [f"{word} {strand}" for strand in strands] + [f"{word} {reverse_complement(strand)}" for strand in strands]
        chosen = _likeliest(view, texts, [str(value) for value in values]).reshape(2, len(strands))
        share = [np.bincount(row, minlength=len(values)) / len(strands) for row in chosen]
        figures[f"{task}/consistency"] = float((chosen[0] == chosen[1]).mean())
        figures[f"{task}/chance"] = float(share[0] @ share[1])
        figures[f"{task}/accuracy"] = float(np.mean([values[i] == rule(s) for i, s in zip(chosen[0], strands, strict=True)]))
    return figures
