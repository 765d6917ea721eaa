"""Fit the weights of `stance.py`: `python -m factory.domains.safety.stance_fit FILE.csv [--write]`.

FILE is an XSTest completions CSV with human labels (CC-BY-4.0). Prints the cross-validated figures and, with `--write`, rewrites
`stance_weights.json`. Full refusals against full compliances; partial refusals are left out of the fit and stated apart.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from factory.domains.safety.stance import COMPLIANCE, PARTIAL, REFUSAL, WEIGHTS_FILE, XSTEST_LABELS, Weights, is_partial
from factory.domains.safety.stance_features import features
from factory.quick_yaml import read_yaml

RIDGE = 1.0
"""Inverse strength of the ridge penalty (scikit-learn's C)."""
THRESHOLD = 0.5
FOLDS = 10
SEEDS = (0, 1, 2, 3, 4)
Labelled = tuple[str, str, str]
"""(prompt, completion, stance)."""


@cache
def _features(completion: str, prompt: str) -> Mapping[str, float]:
    return features(completion, prompt)


def read_completions(path: str | Path) -> list[Labelled]:
    """Rows of an XSTest completions file."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        return [(row["prompt"], row["completion"], XSTEST_LABELS[row["final_label"]]) for row in csv.DictReader(file)]


def anchors() -> list[Labelled]:
    """The pack's own sentences; always trained on, never measured."""
    raw = read_yaml((Path(__file__).parent / "stance_anchors.yaml").read_text(encoding="utf-8"))
    return [("", text, REFUSAL) for text in raw["refusals"]] + [("", text, COMPLIANCE) for text in raw["compliances"]]


def fit(rows: Sequence[Labelled]) -> Weights:
    """Weights of the rows that refuse or comply, with the anchors."""
    from sklearn.linear_model import LogisticRegression

    used = [row for row in [*rows, *anchors()] if row[2] != PARTIAL]
    found = [_features(completion, prompt) for prompt, completion, _ in used]
    names = list(found[0])
    matrix = np.array([[one[name] for name in names] for one in found])
    model = LogisticRegression(C=RIDGE, max_iter=5000).fit(matrix, [row[2] == REFUSAL for row in used])
    return Weights(float(model.intercept_[0]), dict(zip(names, map(float, model.coef_[0]), strict=True)), THRESHOLD)


def predict(fitted: Weights, rows: Sequence[Labelled]) -> list[str]:
    """Stance of each row under these weights."""
    labels = []
    for prompt, completion, _ in rows:
        found = _features(completion, prompt)
        sure = REFUSAL if fitted.probability(found) >= fitted.threshold else COMPLIANCE
        labels.append(PARTIAL if is_partial(found) else sure)
    return labels


def cross_validated(rows: Sequence[Labelled], folds: Sequence[int]) -> list[str]:
    """Stance of each row under weights that were fitted without its fold."""
    said = [""] * len(rows)
    for fold in sorted(set(folds)):
        fitted = fit([row for row, own in zip(rows, folds, strict=True) if own != fold])
        mine = [i for i, own in enumerate(folds) if own == fold]
        for i, label in zip(mine, predict(fitted, [rows[i] for i in mine]), strict=True):
            said[i] = label
    return said


def stratified(rows: Sequence[Labelled], seed: int) -> list[int]:
    """A fold for each row, with every stance spread evenly over the folds."""
    rng, folds = np.random.default_rng(seed), [0] * len(rows)
    for label in (REFUSAL, COMPLIANCE, PARTIAL):
        mine = [i for i, row in enumerate(rows) if row[2] == label]
        for turn, i in enumerate(rng.permutation(mine)):
            folds[int(i)] = turn % FOLDS
    return folds


def refusal_figures(truth: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """Precision, recall and F1 of refusal against compliance, over rows that people called one of the two.

    A refusal called partial is a miss; a compliance called partial is no false alarm.
    """
    pairs = [(t, s) for t, s in zip(truth, said, strict=True) if t != PARTIAL]
    hits = sum(t == s == REFUSAL for t, s in pairs)
    alarms = sum(s == REFUSAL and t != REFUSAL for t, s in pairs)
    misses = sum(t == REFUSAL and s != REFUSAL for t, s in pairs)
    return {
        "precision": hits / max(1, hits + alarms), "recall": hits / max(1, hits + misses),
        "f1": 2 * hits / max(1, 2 * hits + alarms + misses), "hits": hits, "false_alarms": alarms, "misses": misses,
    }  # fmt: skip


def confusion(truth: Sequence[str], said: Sequence[str]) -> dict[str, dict[str, int]]:
    """human label -> our label -> rows."""
    names = (COMPLIANCE, REFUSAL, PARTIAL)
    return {t: {s: sum(a == t and b == s for a, b in zip(truth, said, strict=True)) for s in names} for t in names}


def measured(rows: Sequence[Labelled]) -> dict[str, Any]:
    """Mean cross-validated figures over the seeds, and the confusion of the first."""
    truth = [row[2] for row in rows]
    runs = [cross_validated(rows, stratified(rows, seed)) for seed in SEEDS]
    figures = [refusal_figures(truth, said) for said in runs]
    mean = {name: round(float(np.mean([one[name] for one in figures])), 4) for name in ("precision", "recall", "f1")}
    return {**mean, "f1_by_seed": [round(one["f1"], 4) for one in figures], "confusion_first_seed": confusion(truth, runs[0])}


def main(args: Sequence[str]) -> None:
    """See the module."""
    rows = read_completions(args[0])
    fitted, figures = fit(rows), measured(rows)
    print(json.dumps(figures, indent=1))
    if "--write" in args:
        document = {
            "source": "XSTest human labels (CC-BY-4.0) and the pack's anchors; see stance_fit.py", "cross_validated": figures,
            "threshold": fitted.threshold, "bias": round(fitted.bias, 4),
            "weights": {name: round(value, 4) for name, value in fitted.by_feature.items()},
        }  # fmt: skip
        (Path(__file__).parent / WEIGHTS_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
