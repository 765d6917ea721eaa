"""Molecular formulas as counts of elements: read, write, compare. No RDKit needed except for the formula of a molecule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

ELEMENTS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca", "Sc", "Ti",
    "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo",
    "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm",
    "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb",
    "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)  # fmt: skip
_KNOWN = frozenset(ELEMENTS)
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_TOKEN = re.compile(r"([A-Z][a-z]?)(\d{0,4})|(\()|(\))(\d{0,4})|([·.*])(\d{0,3})")
_CHARGE = re.compile(r"(?:\^?\{?(\d{0,2})([+-])\}?|([+-]{1,4}))$")
MAX_CHARS = 120
MAX_DEPTH = 8


class FormulaFault(ValueError):
    """A text that is no formula."""


@lru_cache(maxsize=8192)
def _read(text: str) -> tuple[tuple[tuple[str, int], ...], int]:
    shown = text[:60]
    body = text.translate(_SUBSCRIPTS).strip().strip("$").replace("_{", "").replace("_", "").replace("}", "")
    if not body or len(text) > MAX_CHARS or not body.replace("·", "").isascii():
        raise FormulaFault(f"no formula: {shown!r}")
    charge = 0
    sign = _CHARGE.search(body)
    if sign:
        charge = (int(sign[1] or 1) if sign[2] else len(sign[3])) * (-1 if "-" in sign[0] else 1)
        if sign[3] and len(set(sign[3])) > 1:
            raise FormulaFault(f"no formula: {shown!r}")
        # "SO4" of "SO42-" cannot be told from "SO42" and "-": a bare digit before the sign stays with the formula.
        if sign[1] and "^" not in sign[0]:
            charge, body = (-1 if "-" in sign[0] else 1), body[: sign.end(1)]
        else:
            body = body[: sign.start()]
    stack: list[Counter[str]] = [Counter()]
    factor, start, cursor = 1, Counter(), 0
    while cursor < len(body):
        hit = _TOKEN.match(body, cursor)
        if hit is None:
            raise FormulaFault(f"no formula: {shown!r}")
        cursor = hit.end()
        if hit[1]:
            if hit[1] not in _KNOWN:
                raise FormulaFault(f"{hit[1]!r} is no element, in {shown!r}")
            stack[-1][hit[1]] += _count(hit[2], shown)
        elif hit[3]:
            stack.append(Counter())
            if len(stack) > MAX_DEPTH:
                raise FormulaFault(f"too many brackets: {shown!r}")
        elif hit[4]:
            if len(stack) == 1:
                raise FormulaFault(f"unbalanced brackets: {shown!r}")
            inner, times = stack.pop(), _count(hit[5], shown)
            for element, number in inner.items():
                stack[-1][element] += number * times
        else:  # a hydrate: CuSO4·5H2O
            if len(stack) > 1 or not stack[0]:
                raise FormulaFault(f"no formula: {shown!r}")
            for element, number in stack[0].items():
                start[element] += number * factor
            stack, factor = [Counter()], _count(hit[7], shown)
    if len(stack) != 1 or not stack[0]:
        raise FormulaFault(f"unbalanced brackets: {shown!r}" if len(stack) != 1 else f"no formula: {shown!r}")
    for element, number in stack[0].items():
        start[element] += number * factor
    return tuple(sorted(start.items())), charge


def _count(digits: str, shown: str) -> int:
    if digits and int(digits) == 0:
        raise FormulaFault(f"a count of 0 in {shown!r}")
    return int(digits or 1)


def read_formula(text: str) -> tuple[dict[str, int], int]:
    """(element -> count, charge) of `C9H8O4`, `Ca(OH)2`, `CuSO4·5H2O`, `NH4+`, `SO4^2-`, C₂H₆O.

    Raises:
        FormulaFault: anything else, also with blanks inside.
    """
    atoms, charge = _read(text)
    return dict(atoms), charge


def hill(atoms: Mapping[str, int], charge: int = 0) -> str:
    """Hill order: C, H, then by letter; without carbon all by letter."""
    first = [element for element in ("C", "H") if element in atoms] if "C" in atoms else []
    order = first + sorted(element for element in atoms if element not in first)
    text = "".join(f"{element}{atoms[element] if atoms[element] != 1 else ''}" for element in order if atoms[element])
    if charge:
        text += f"^{abs(charge) if abs(charge) != 1 else ''}{'+' if charge > 0 else '-'}"
    return text


def formula_of(mol: Any) -> tuple[dict[str, int], int]:
    """(element -> count, charge) of a molecule, hydrogens included. Raises FormulaFault for a wildcard atom."""
    atoms: Counter[str] = Counter()
    charge = 0
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0:
            raise FormulaFault("a wildcard atom has no formula")
        atoms[atom.GetSymbol()] += 1
        atoms["H"] += atom.GetTotalNumHs()
        charge += atom.GetFormalCharge()
    return {element: number for element, number in atoms.items() if number}, charge


def is_same_formula(a: str, b: str) -> bool:
    """Equal counts and charge, whatever the order. Raises FormulaFault."""
    return read_formula(a) == read_formula(b)
