"""The decision table: what a field is called, given its findings.

A teaching table for synthetic tiles. It borrows the words of pathology, and it is not medicine.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

from factory.domains.pathology.findings import VALUES

HE_AXES = ("gland", "size", "density")
"""Findings that decide an H&E field; each has two values, so a cell has three neighbours that differ in one of them."""

HE_TABLE = MappingProxyType(
    {
        ("present", "small", "low"): "normal",
        ("present", "small", "high"): "hyperplasia",
        ("present", "large", "low"): "dysplasia",
        ("present", "large", "high"): "adenocarcinoma",
        ("absent", "small", "low"): "stroma",
        ("absent", "small", "high"): "lymphoid",
        ("absent", "large", "low"): "atypia",
        ("absent", "large", "high"): "carcinoma",
    }
)
"""(gland, size, density) -> diagnosis."""

IHC_TABLE = MappingProxyType({("negative",): "0", ("focal",): "1+", ("patchy",): "2+", ("diffuse",): "3+"})
"""(dab,) -> score of an immunohistochemistry field."""

FULL_NAMES = MappingProxyType(
    {
        "normal": "normal gland", "hyperplasia": "glandular hyperplasia", "dysplasia": "glandular dysplasia",
        "adenocarcinoma": "adenocarcinoma", "stroma": "fibrous stroma", "lymphoid": "lymphoid tissue",
        "atypia": "scattered atypical cells", "carcinoma": "solid carcinoma",
        "0": "score 0", "1+": "score 1+", "2+": "score 2+", "3+": "score 3+",
    }
)  # fmt: skip
"""Diagnosis -> its name in full sentences."""


def axes(findings: Mapping[str, str]) -> tuple[str, ...]:
    """The findings that decide this field, in the order in which they are reasoned about."""
    return ("dab",) if findings["stain"] == "ihc" else HE_AXES


def table(findings: Mapping[str, str]) -> Mapping[tuple[str, ...], str]:
    """The table that this field's stain uses."""
    return IHC_TABLE if findings["stain"] == "ihc" else HE_TABLE


def diagnose(findings: Mapping[str, str]) -> str:
    """The diagnosis of a field's findings."""
    return table(findings)[tuple(findings[axis] for axis in axes(findings))]


def candidates(findings: Mapping[str, str]) -> tuple[str, ...]:
    """Four options, the right one first. Distractors are the neighbouring cells: one step away on one axis.

    An H&E cell has exactly three neighbours. An IHC score has one or two, so all four scores are offered.
    """
    rows = table(findings)
    here = tuple(findings[axis] for axis in axes(findings))
    by_distance = sorted(rows, key=lambda cell: _distance(axes(findings), here, cell))
    return tuple(rows[cell] for cell in itertools.islice(by_distance, 4))


def _distance(names: tuple[str, ...], a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Steps between two cells, summed over the axes."""
    return sum(abs(VALUES[name].index(p) - VALUES[name].index(q)) for name, p, q in zip(names, a, b, strict=True))
