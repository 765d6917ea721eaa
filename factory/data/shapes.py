"""Known shapes of rows: recognised by their columns, with a near-miss hint when a column is called otherwise."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.data.report import RowFault
from factory.errors import DataError


@dataclass(frozen=True, slots=True)
class Shape:
    """One layout of rows that a pack can read."""

    name: str
    title: str
    columns: tuple[tuple[str, ...], ...]
    """Needed columns; each is a tuple of names of which one must be there, the usual one first."""
    kinds: frozenset[str] | None = None
    """Kinds of table (`csv`, `tar`, ...) in which it occurs; None for any."""
    gives: frozenset[str] = frozenset()
    """What its rows can become: `documents`, `lessons`, `samples`."""

    def fits(self, names: Iterable[str], kind: str) -> bool:
        """True when every needed column is there under one of its names."""
        present = set(names)
        return (self.kinds is None or kind in self.kinds) and all(present.intersection(group) for group in self.columns)

    def describe(self) -> str:
        """`figure-caption: image_path (or image), caption`."""
        needed = ", ".join(group[0] + (f" (or {', '.join(group[1:])})" if group[1:] else "") for group in self.columns)
        return f"{self.name}: {needed} -- {self.title}"


def detect_shape(names: Sequence[str], kind: str, shapes: Sequence[Shape], *, where: str) -> Shape:
    """The first shape whose columns are all there (`shapes` go from special to general).

    Raises:
        DataError: none fits. Names the nearest shape, what it lacks with a near miss, and all known shapes.
    """
    for shape in shapes:
        if shape.fits(names, kind):
            return shape
    candidates = [shape for shape in shapes if shape.kinds is None or kind in shape.kinds]
    hint = ""
    if candidates:
        best = max(candidates, key=lambda shape: _score(shape, names))
        if _score(best, names) > 0:
            lacking = [group for group in best.columns if not set(group) & set(names)]
            spare = [name for name in names if not any(name in group for group in best.columns)]
            named = ", ".join(f"'{group[0]}'{_hint(group, spare)}" for group in lacking)
            hint = f" Nearest is {best.name}, which also needs {named}."
    known = "\n  ".join(shape.describe() for shape in candidates)
    columns = ", ".join(map(str, names)) or "none"
    raise DataError(f"{where}: columns ({columns}) fit no known shape.{hint} Known for {kind}:\n  {known}")


def _score(shape: Shape, names: Sequence[str]) -> float:
    """Share of needed columns that are there; one under a similar name counts half."""
    points = 0.0
    for group in shape.columns:
        if set(group) & set(names):
            points += 1.0
        elif _hint(group, names):
            points += 0.5
    return points / len(shape.columns)


def _hint(group: Sequence[str], names: Sequence[str]) -> str:
    for known in group:
        for hit in difflib.get_close_matches(known, [str(name) for name in names], n=1, cutoff=0.6):
            return f" (there is '{hit}')"
    return ""


def cell(row: Mapping[str, Any], *names: str) -> Any:
    """The value under the first of the names that the row has and that is not blank.

    Raises:
        RowFault: no such column (with the nearest column there is), or all are blank.
    """
    value = optional_cell(row, *names)
    if value is not None:
        return value
    if any(name in row for name in names):
        raise RowFault(names[0], "is blank.")
    columns = ", ".join(str(name) for name in row)
    raise RowFault(names[0], f"column is missing{_hint(names, list(row))}. The row has: {columns}.")


def optional_cell(row: Mapping[str, Any], *names: str) -> Any:
    """Like `cell`, but None instead of a fault."""
    for name in names:
        value = row.get(name)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return value
    return None


def text_cell(row: Mapping[str, Any], *names: str) -> str:
    """A cell that must hold text (numbers and booleans are written out). Raises RowFault."""
    value = cell(row, *names)
    if isinstance(value, (str, int, float)):
        return str(value).strip()
    raise RowFault(names[0], f"must be text, got {type(value).__name__} {value!r:.60}.")
