"""Chemical equations: read, check, and balance by the null space of the element matrix, in whole numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from factory.domains.chemistry.formulas import FormulaFault, read_formula

MAX_SPECIES = 12
MAX_CHARS = 400
_ARROW = re.compile(r"\s*(?:-+>|=+>|→|⟶|⇌|<=+>|<-+>|=)\s*")
_PLUS = re.compile(r"\s+\+\s+|(?<=[A-Za-z0-9)])\+(?=[0-9A-Z(])")
_TERM = re.compile(r"(\d{1,4})?\s*\*?\s*([A-Z(]\S*)")
_STATE = re.compile(r"\((?:s|l|g|aq)\)$")


class EquationFault(ValueError):
    """A text that is no equation, or one that cannot be balanced."""


@dataclass(frozen=True)
class Equation:
    """Left and right side: (coefficient, species) each."""

    left: tuple[tuple[int, str], ...]
    right: tuple[tuple[int, str], ...]

    @cached_property
    def species(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Species of both sides, sorted, by content: two writings of one formula are the same."""
        sides = []
        for side in (self.left, self.right):
            sides.append(tuple(sorted(_key(name) for _, name in side)))
        return sides[0], sides[1]

    @property
    def coefficients(self) -> tuple[int, ...]:
        """All coefficients, left then right."""
        return tuple(number for number, _ in (*self.left, *self.right))

    def imbalance(self) -> Mapping[str, int]:
        """element (and `charge`) -> left minus right, where that is not 0."""
        totals: dict[str, int] = {}
        for sign, side in ((1, self.left), (-1, self.right)):
            for number, name in side:
                atoms, charge = read_formula(name)
                for element, count in (*atoms.items(), ("charge", charge)):
                    totals[element] = totals.get(element, 0) + sign * number * count
        return {element: total for element, total in totals.items() if total}

    def coefficient_map(self) -> dict[tuple[int, str], int]:
        """(side, species) -> coefficient, for comparing equations whatever the order of their terms."""
        return {(side, _key(name)): number for side, terms in enumerate((self.left, self.right)) for number, name in terms}

    def __str__(self) -> str:
        sides = (
            " + ".join(f"{number} {name}" if number != 1 else name for number, name in side) for side in (self.left, self.right)
        )
        return " -> ".join(sides)


def _key(name: str) -> str:
    atoms, charge = read_formula(name)
    return " ".join(f"{element}{atoms[element]}" for element in sorted(atoms)) + (f" {charge:+d}" if charge else "")


def read_equation(text: str) -> Equation:
    """`2 H2 + O2 -> 2 H2O`; arrows `->`, `=>`, `=`, `→`, `⇌`; states such as (aq) are dropped.

    Raises:
        EquationFault: not exactly one arrow, a term that is no formula, a coefficient of 0, a species twice on one side.
    """
    text = text.strip()
    if len(text) > MAX_CHARS:
        raise EquationFault(f"more than {MAX_CHARS} characters")
    sides = _ARROW.split(text)
    if len(sides) != 2 or not all(side.strip() for side in sides):
        raise EquationFault(f"not one equation with one arrow: {text[:60]!r}")
    left, right = (tuple(_term(term) for term in _PLUS.split(side.strip())) for side in sides)
    found = Equation(left, right)
    if len(left) + len(right) > MAX_SPECIES:
        raise EquationFault(f"more than {MAX_SPECIES} species")
    for side in found.species:
        if len(set(side)) != len(side):
            raise EquationFault("a species occurs twice on one side")
    return found


def _term(text: str) -> tuple[int, str]:
    hit = _TERM.fullmatch(text.strip())
    if hit is None:
        raise EquationFault(f"{text.strip()[:40]!r} is no coefficient and formula")
    name = _STATE.sub("", hit[2])
    number = int(hit[1] or 1)
    if number == 0:
        raise EquationFault("a coefficient of 0")
    try:
        read_formula(name)
    except FormulaFault as err:
        raise EquationFault(str(err)) from err
    return number, name


def balance(left: Sequence[str], right: Sequence[str]) -> Equation:
    """The balanced equation with the smallest whole coefficients.

    Raises:
        EquationFault: no balance with positive coefficients, or more than one independent balance.
    """
    species = [read_formula(name) for name in (*left, *right)]
    rows = [*sorted({element for atoms, _ in species for element in atoms}), "charge"]
    matrix = [
        [
            Fraction((1 if index < len(left) else -1) * (charge if row == "charge" else atoms.get(row, 0)))
            for index, (atoms, charge) in enumerate(species)
        ]
        for row in rows
    ]
    solution = _null_vector(matrix, len(species))
    scale = math.lcm(*(value.denominator for value in solution))
    whole = [int(value * scale) for value in solution]
    whole = [value // math.gcd(*whole) for value in whole]
    if any(value < 0 for value in whole):
        whole = [-value for value in whole]
    if any(value <= 0 for value in whole):
        raise EquationFault("these species cannot be balanced with positive coefficients")
    names = list(zip(whole, (*left, *right), strict=True))
    return Equation(tuple(names[: len(left)]), tuple(names[len(left) :]))


def _null_vector(matrix: list[list[Fraction]], width: int) -> list[Fraction]:
    """The one direction that the matrix maps to 0, by Gauss-Jordan elimination. Raises EquationFault when there is not exactly one."""
    matrix = [row[:] for row in matrix]
    pivots: list[int] = []
    for column in range(width):
        row = next((index for index in range(len(pivots), len(matrix)) if matrix[index][column]), None)
        if row is None:
            continue
        at = len(pivots)
        matrix[at], matrix[row] = matrix[row], matrix[at]
        lead = matrix[at][column]
        matrix[at] = [value / lead for value in matrix[at]]
        for other in range(len(matrix)):
            if other != at and matrix[other][column]:
                factor = matrix[other][column]
                matrix[other] = [a - factor * b for a, b in zip(matrix[other], matrix[at], strict=True)]
        pivots.append(column)
    free = [column for column in range(width) if column not in pivots]
    if len(free) != 1:
        raise EquationFault("no balance" if not free else "more than one independent balance")
    vector = [Fraction(0)] * width
    vector[free[0]] = Fraction(1)
    for row, column in enumerate(pivots):
        vector[column] = -matrix[row][free[0]]
    return vector
