"""Figures over many answers, by the published formulas: ChemCoTBench, TOMG-Bench, SMolInstruct, MoleculeNet, and sets of molecules.

    python -m factory.domains.chemistry.metrics RUN/stages/07-rl-eval/samples.jsonl

prints what fits each task of an eval's completions. None stands for an answer that could not be read; every figure says how many it
rests on.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.domains.chemistry.formulas import FormulaFault, read_formula
from factory.domains.chemistry.groups import count_group
from factory.domains.chemistry.molecules import MoleculeFault, canonical, canonical_smiles, is_molecule, read_molecule, tanimoto
from factory.domains.chemistry.properties import generic_scaffold, property_name, property_of, scaffold
from factory.domains.chemistry.reading import extract

BEST = {"logp": 0.5, "solubility": 0.5}
"""ChemCoTBench: change from which an answer counts for the best rate; 0.3 for every other property."""
WINSOR = (0.05, 0.95)
Figures = dict[str, float]


# --- ChemCoTBench -------------------------------------------------------------------------------------------------------


def count_figures(got: Sequence[int | None], want: Sequence[int]) -> Figures:
    """Accuracy over all, mean absolute error over the answered ones."""
    errors = [abs(a - b) for a, b in zip(got, want, strict=True) if a is not None]
    right = sum(error == 0 for error in errors)
    return {
        "n": len(want),
        "answered": len(errors) / max(1, len(want)),
        "accuracy": right / max(1, len(want)),
        "mae": _mean(errors),
    }


def winsorised(values: Sequence[float], low: float = WINSOR[0], high: float = WINSOR[1]) -> list[float]:
    """The values, with those beyond the two quantiles set to them (linear between ranks, as numpy's default)."""
    if not values:
        return []
    ordered = sorted(values)

    def quantile(q: float) -> float:
        place = q * (len(ordered) - 1)
        below = math.floor(place)
        return ordered[below] + (place - below) * (ordered[min(below + 1, len(ordered) - 1)] - ordered[below])

    bottom, top = quantile(low), quantile(high)
    return [min(top, max(bottom, value)) for value in values]


def improvement_figures(starts: Sequence[str], answers: Sequence[str | None], name: str) -> Figures:
    """Optimisation: mean change (winsorised at 5 and 95 %), success and best rate, scaffolds kept; an unusable answer changes nothing.

    `scaffold_hard`: the same Murcko scaffold; `scaffold_soft`: mean likeness of the scaffolds; `validity`: share of usable answers.
    Raises MoleculeFault when a start is no molecule, ConfigError for an unknown property.
    """
    name = property_name(name)
    bound = BEST.get(name, 0.3)
    changes, hard, soft, valid = [], 0, [], 0
    for start, answer in zip(starts, answers, strict=True):
        before = read_molecule(start)
        mol = _molecule(answer)
        if mol is None:
            changes.append(0.0)
            continue
        valid += 1
        changes.append(property_of(mol, name) - property_of(before, name))
        frames = scaffold(before), scaffold(mol)
        hard += frames[0] == frames[1]
        soft.append(
            tanimoto(read_molecule(frames[0]), read_molecule(frames[1])) if all(frames) else float(frames[0] == frames[1])
        )
    total = max(1, len(starts))
    return {
        "n": len(starts), "validity": valid / total, "mean_change": _mean(winsorised(changes)),
        "success_rate": sum(change > 0 for change in changes) / total, "best_rate": sum(change >= bound for change in changes) / total,
        "scaffold_hard": hard / total, "scaffold_soft": math.fsum(soft) / total,
    }  # fmt: skip


def edit_figures(starts: Sequence[str], answers: Sequence[str | None], adds: Sequence[str], removes: Sequence[str]) -> Figures:
    """Accuracy by the published rule (counts change by one as asked) and validity. An empty name asks for nothing."""
    right = valid = 0
    for start, answer, add, remove in zip(starts, answers, adds, removes, strict=True):
        mol = _molecule(answer)
        if mol is None:
            continue
        valid += 1
        before = read_molecule(start)
        right += all(count_group(mol, name) - count_group(before, name) == by for name, by in ((add, 1), (remove, -1)) if name)
    total = max(1, len(starts))
    return {"n": len(starts), "validity": valid / total, "accuracy": right / total}


def scaffold_figures(answers: Sequence[str | None], want: Sequence[str]) -> Figures:
    """Exact and generic (soft) agreement, and mean Tanimoto likeness; unusable answers count 0."""
    exact, soft, alike = 0, 0, 0.0
    for answer, truth in zip(answers, want, strict=True):
        mol = _molecule(answer)
        if mol is None:
            continue
        gold = read_molecule(truth)
        exact += canonical(mol, is_isomeric=False) == canonical(gold, is_isomeric=False)
        soft += generic_scaffold(mol) == generic_scaffold(gold)
        alike += tanimoto(mol, gold)
    total = max(1, len(want))
    return {"n": len(want), "exact": exact / total, "generic": soft / total, "tanimoto": alike / total}


# --- TOMG-Bench ---------------------------------------------------------------------------------------------------------


def tomg_figures(
    is_right: Sequence[bool], answers: Sequence[str | None], starts: Sequence[str] | None = None, corpus: Sequence[str] = ()
) -> Figures:
    """Accuracy, validity, and the leaderboard's weighted accuracy = accuracy x weight.

    The weight is the mean likeness to the start for edits and optimisation, and the mean novelty (1 - likeness to the nearest
    molecule of `corpus`; 1 without a corpus) for MolCustom. Both are means over valid answers.
    """
    weights, valid = [], 0
    known = [read_molecule(text) for text in corpus]
    for index, answer in enumerate(answers):
        mol = _molecule(answer)
        if mol is None:
            continue
        valid += 1
        if starts is not None:
            weights.append(tanimoto(mol, read_molecule(starts[index])))
        else:
            weights.append(1.0 - max((tanimoto(mol, other) for other in known), default=0.0))
    total = max(1, len(answers))
    accuracy, weight = sum(map(bool, is_right)) / total, _mean(weights)
    label = "similarity" if starts is not None else "novelty"
    return {
        "n": len(answers),
        "accuracy": accuracy,
        "validity": valid / total,
        label: weight,
        "weighted_accuracy": accuracy * weight,
    }


# --- SMolInstruct -------------------------------------------------------------------------------------------------------


def smiles_figures(answers: Sequence[str | None], want: Sequence[str]) -> Figures:
    """Exact match on canonical SMILES and validity over all; MACCS, RDK and Morgan likeness over the valid ones."""
    exact, alike = 0, {"maccs": [], "rdk": [], "morgan": []}
    for answer, truth in zip(answers, want, strict=True):
        mol = _molecule(answer)
        if mol is None:
            continue
        gold = read_molecule(truth.replace(";", "."))
        exact += canonical(mol) == canonical(gold)
        for kind, values in alike.items():
            values.append(tanimoto(mol, gold, kind))
    total = max(1, len(want))
    return {
        "n": len(want),
        "exact": exact / total,
        "validity": len(alike["morgan"]) / total,
        **{k: _mean(v) for k, v in alike.items()},
    }


def formula_figures(answers: Sequence[str | None], want: Sequence[str]) -> Figures:
    """Element match: the same counts of elements, whatever the order."""
    right = sum(answer is not None and _formula(answer) == _formula(truth) for answer, truth in zip(answers, want, strict=True))
    return {"n": len(want), "element_match": right / max(1, len(want))}


def name_figures(answers: Sequence[str | None], want: Sequence[str]) -> Figures:
    """Exact match of the names, and split match: the same components (parted by `;` or blanks) in any order."""
    pairs = [((answer or "").strip(), truth.strip()) for answer, truth in zip(answers, want, strict=True)]

    def parts(text: str) -> list[str]:
        return sorted(part for part in text.replace(";", " ").split() if part)

    total = max(1, len(pairs))
    return {
        "n": len(pairs),
        "exact": sum(a == b for a, b in pairs) / total,
        "split_match": sum(parts(a) == parts(b) for a, b in pairs) / total,
    }


# --- properties ---------------------------------------------------------------------------------------------------------


def regression_figures(got: Sequence[float | None], want: Sequence[float]) -> Figures:
    """MAE and RMSE over the answered ones, and how many those are: silence must not look like precision."""
    errors = [a - b for a, b in zip(got, want, strict=True) if a is not None and math.isfinite(a)]
    return {
        "n": len(want), "answered": len(errors) / max(1, len(want)), "mae": _mean([abs(error) for error in errors]),
        "rmse": math.sqrt(_mean([error * error for error in errors])) if errors else math.nan,
    }  # fmt: skip


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Chance that a positive scores above a negative, ties counting half; nan when one of the two is absent (Mann-Whitney)."""
    order = sorted(range(len(scores)), key=lambda index: scores[index])
    ranks, at = [0.0] * len(scores), 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and scores[order[end + 1]] == scores[order[at]]:
            end += 1
        for place in range(at, end + 1):
            ranks[order[place]] = (at + end) / 2 + 1
        at = end + 1
    positives = sum(map(bool, labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return math.nan
    total = math.fsum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def class_figures(got: Sequence[bool | None], want: Sequence[bool], scores: Sequence[float] | None = None) -> Figures:
    """Accuracy (silence is wrong), F1 of the positives, the majority's accuracy beside it, and AUROC when scores are given."""
    pairs = list(zip(got, want, strict=True))
    hits = sum(a is True and b for a, b in pairs)
    named = sum(a is True for a, _ in pairs) + sum(map(bool, want))
    positives = sum(map(bool, want))
    total = max(1, len(want))
    found = {
        "n": len(want), "accuracy": sum(a is not None and a == b for a, b in pairs) / total, "f1": 2 * hits / named if named else 0.0,
        "majority": max(positives, len(want) - positives) / total,
    }  # fmt: skip
    return found | ({"auroc": auroc(scores, want)} if scores is not None else {})


# --- sets of molecules --------------------------------------------------------------------------------------------------


def set_figures(answers: Sequence[str | None], corpus: Iterable[str] = ()) -> Figures:
    """Validity over all; uniqueness, novelty (share that is not in the corpus) and diversity over the valid ones.

    Diversity is the mean of 1 - Tanimoto over pairs of distinct molecules; of more than 400, the first 400 are compared.
    """
    valid = [canonical_smiles(answer) for answer in answers if answer is not None and is_molecule(answer)]
    known = {canonical_smiles(text) for text in corpus if is_molecule(text)}
    distinct = sorted(set(valid))[:400]
    mols = [read_molecule(text) for text in distinct]
    distances = [1.0 - tanimoto(a, b) for i, a in enumerate(mols) for b in mols[i + 1 :]]
    return {
        "n": len(answers), "validity": len(valid) / max(1, len(answers)), "uniqueness": len(set(valid)) / max(1, len(valid)),
        "novelty": sum(text not in known for text in valid) / max(1, len(valid)), "diversity": _mean(distances),
    }  # fmt: skip


# --- an eval's completions ----------------------------------------------------------------------------------------------


def figures_of(task: str, rows: Sequence[Mapping[str, Any]], shape: str = "think_answer") -> Figures:
    """The figures that fit a task, from rows with `completion` and `reference`; empty for a task without any beyond accuracy."""
    answers = [_answer(str(row["completion"]), shape) for row in rows]
    references = [row["reference"] for row in rows]
    if task in ("count", "groups"):
        return count_figures([_int(answer) for answer in answers], [int(value) for value in references])
    if task == "value":
        return regression_figures([_float(answer) for answer in answers], [float(value) for value in references])
    if task in ("same", "stability"):
        said = [{"yes": True, "no": False}.get((answer or "").strip(" .").casefold()) for answer in answers]
        return class_figures(said, [value == "yes" for value in references])
    if task == "formula":
        return formula_figures(answers, references)
    if task == "scaffold":
        return scaffold_figures(answers, references)
    if task in ("forward", "name", "molecule"):
        return smiles_figures(answers, references)
    if task in ("add", "delete", "swap"):
        starts = [value["start"] for value in references]
        return edit_figures(
            starts, answers, [value.get("add", "") for value in references], [value.get("remove", "") for value in references]
        )
    if task == "optimise":
        found: Figures = {}
        for name in sorted({value["property"] for value in references}):
            chosen = [
                (value, answer)
                for value, answer in zip(references, answers, strict=True)
                if value["property"] == name and value["direction"] == "up"
            ]
            if chosen:
                figures = improvement_figures([value["start"] for value, _ in chosen], [answer for _, answer in chosen], name)
                found |= {f"{name}/{key}": value for key, value in figures.items()}
        return found
    return set_figures(answers) if task in ("compose", "design") else {}


def report(rows: Iterable[Mapping[str, Any]], shape: str = "think_answer") -> dict[str, Figures]:
    """Task -> figures, from the rows of an eval's `samples.jsonl`."""
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tasks.setdefault(str(row["task"]), []).append(row)
    return {task: figures for task, members in sorted(tasks.items()) if (figures := figures_of(task, members, shape))}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of an eval's samples.jsonl, as JSON."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(prog="python -m factory.domains.chemistry.metrics", description=main.__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--shape", default="think_answer")
    asked = parser.parse_args(arguments)
    rows = [json.loads(line) for line in asked.samples.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = {
        task: {k: None if math.isnan(v) else v for k, v in figures.items()} for task, figures in report(rows, asked.shape).items()
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def _answer(completion: str, shape: str) -> str | None:
    try:
        return extract(completion, shape, is_lenient=True)
    except ValueError:
        return None


def _molecule(answer: str | None) -> Any:
    try:
        return read_molecule(answer.replace(";", ".")) if answer is not None else None
    except MoleculeFault:
        return None


def _formula(text: str) -> Any:
    try:
        return read_formula(text)
    except FormulaFault:
        return None


def _int(text: str | None) -> int | None:
    value = _float(text)
    return int(value) if value is not None and value == int(value) else None


def _float(text: str | None) -> float | None:
    try:
        value = float((text or "").strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


if __name__ == "__main__":
    raise SystemExit(main())
