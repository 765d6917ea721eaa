"""Findings named in one report sentence, with negations: the text side of entity extraction."""

from __future__ import annotations

import random
from dataclasses import dataclass

FINDINGS = (
    "effusion", "edema", "consolidation", "atelectasis", "cardiomegaly", "pneumothorax", "fracture", "nodule", "mass", "emphysema",
)  # fmt: skip
"""The closed list; `synonyms.yaml` has other ways to write them."""
FULL = {
    "effusion": "pleural effusion", "edema": "pulmonary edema", "consolidation": "consolidation", "atelectasis": "atelectasis",
    "cardiomegaly": "cardiomegaly", "pneumothorax": "pneumothorax", "fracture": "rib fracture", "nodule": "lung nodule", "mass": "lung mass",
    "emphysema": "emphysema",
}  # fmt: skip
_PRESENT = ("There is {}.", "{} is seen.", "Findings are in keeping with {}.")
_ABSENT = ("No {}.", "There is no evidence of {}.", "{} is not seen.", "No sign of {} is present.")


@dataclass(frozen=True, slots=True)
class ReportText:
    """Statements in order: (finding, is_present)."""

    statements: tuple[tuple[str, bool], ...]

    @property
    def present(self) -> list[str]:
        """What is there, in the order of the text."""
        return [name for name, is_present in self.statements if is_present]

    def terse(self) -> str:
        """`effusion . no edema . mass`."""
        return " . ".join(name if is_present else f"no {name}" for name, is_present in self.statements)

    def full(self, rng: random.Random) -> str:
        """Sentences with negations of several forms."""
        parts = [rng.choice(_PRESENT if is_present else _ABSENT).format(FULL[name]) for name, is_present in self.statements]
        return " ".join(part[0].upper() + part[1:] for part in parts)


def draw_report(rng: random.Random) -> ReportText:
    """Three or four statements, of which one or two are positive."""
    names = rng.sample(FINDINGS, rng.choice((3, 4)))
    present = set(rng.sample(names, rng.choice((1, 2))))
    return ReportText(tuple((name, name in present) for name in names))
