"""Figures of label tasks beside accuracy: macro precision, recall and F1, Matthews' correlation, and the majority's accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

OTHER = "(none of the labels)"


def classification(gold: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """Figures of one task.

    Args:
        gold: right labels, [N].
        said: answered labels, [N]; one that is no right label of any row counts as a wrong answer, and as a class only for
            the correlation.

    Returns:
        accuracy, majority (accuracy of always giving the commonest label), macro_precision, macro_recall, macro_f1 (means over
        the gold labels, sorted; a label never answered has precision and F1 0) and mcc (the multi-class form of Gorodkin).

    Raises:
        ValueError: lengths differ or there is no row.
    """
    if not gold or len(gold) != len(said):
        raise ValueError(f"{len(gold)} right labels and {len(said)} answers; want as many, and at least one")
    labels = sorted(set(gold))
    index = {label: i for i, label in enumerate([*labels, OTHER])}
    matrix = np.zeros((len(index), len(index)))
    for want, got in zip(gold, said, strict=True):
        matrix[index[want], index.get(got, len(labels))] += 1
    hits = np.diag(matrix)[: len(labels)]
    answered, wanted = matrix.sum(axis=0)[: len(labels)], matrix.sum(axis=1)[: len(labels)]
    precision = np.divide(hits, answered, out=np.zeros_like(hits), where=answered > 0)
    recall = hits / wanted
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return {
        "accuracy": float(hits.sum() / len(gold)), "majority": max(Counter(gold).values()) / len(gold),
        "macro_precision": float(precision.mean()), "macro_recall": float(recall.mean()), "macro_f1": float(f1.mean()),
        "mcc": matthews(matrix),
    }  # fmt: skip


def matthews(matrix: np.ndarray) -> float:
    """Multi-class Matthews correlation of a confusion matrix (rows: right, columns: answered); 0 where it is undefined."""
    total, right = matrix.sum(), np.trace(matrix)
    wanted, answered = matrix.sum(axis=1), matrix.sum(axis=0)
    spread = (total**2 - (answered**2).sum()) * (total**2 - (wanted**2).sum())
    return float((right * total - wanted @ answered) / np.sqrt(spread)) if spread > 0 else 0.0


def label_figures(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str], read: Callable[[str], str]) -> dict[str, float]:
    """`<task>/<figure>` for each label task among the rows of an eval.

    Args:
        rows: rows of an eval with `task`, `reference` and `completion`.
        tasks: the label tasks.
        read: (completion) -> canonical label, and used on references too.
    """
    found: dict[str, float] = {}
    for task in tasks:
        gold, said = [], []
        for row in (row for row in rows if row["task"] == task):
            accepted = [row["reference"]] if isinstance(row["reference"], str) else list(row["reference"])
            right, answer = [read(str(text)) for text in accepted], read(row["completion"])
            # Any of several right labels counts as the first of them.
            gold.append(right[0])
            said.append(right[0] if answer in right else answer)
        if gold:
            found |= {f"{task}/{name}": value for name, value in classification(gold, said).items()}
    return found
