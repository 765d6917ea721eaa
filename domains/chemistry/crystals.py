"""Crystals from the user's files: what a CIF says of its cell and content, without a crystallography library.

Enough for stability questions (MatBench-shaped rows): formula, cell, space group. Geometry beyond that needs pymatgen, which is not used.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from dataclasses import dataclass

from factory.domains.chemistry.formulas import FormulaFault, hill, read_formula

MAX_CHARS = 2_000_000
STABLE_BELOW = 0.0
"""eV per atom above the hull up to which a crystal counts as stable."""


class CifFault(ValueError):
    """A text that is no usable CIF."""


@dataclass(frozen=True)
class Crystal:
    """One data block of a CIF."""

    name: str
    formula: str
    """Hill order, as in the file's sum formula (else counted over its sites)."""
    lengths: tuple[float, float, float]
    """a, b, c in angstrom."""
    angles: tuple[float, float, float]
    """alpha, beta, gamma in degrees."""
    space_group: str
    sites: tuple[tuple[str, float, float, float], ...]
    """Element and fractional coordinates of the sites listed."""

    @property
    def volume(self) -> float:
        """Cell volume in cubic angstrom."""
        cosines = [math.cos(math.radians(angle)) for angle in self.angles]
        inside = 1.0 - sum(value * value for value in cosines) + 2.0 * math.prod(cosines)
        return math.prod(self.lengths) * math.sqrt(max(0.0, inside))

    def description(self) -> str:
        """One line of facts for a question."""
        a, b, c = self.lengths
        alpha, beta, gamma = self.angles
        return (
            f"{self.formula}, space group {self.space_group or 'unknown'}, a {a:.3f}, b {b:.3f}, c {c:.3f} angstrom, "
            f"alpha {alpha:.1f}, beta {beta:.1f}, gamma {gamma:.1f} degrees, volume {self.volume:.1f}"
        )


def read_cif(text: str) -> Crystal:
    """The first data block.

    Raises:
        CifFault: no block, no cell, or neither a formula nor sites.
    """
    if len(text) > MAX_CHARS:
        raise CifFault(f"more than {MAX_CHARS} characters")
    name, values, sites = "", {}, []
    lines = [line.strip() for line in text.splitlines()]
    at = 0
    while at < len(lines):
        line, at = lines[at], at + 1
        if line.lower().startswith("data_"):
            if name:
                break
            name = line[5:] or "crystal"
        elif line.lower() == "loop_":
            found, at = _loop(lines, at)
            sites.extend(found)
        elif line.startswith("_"):
            tag, *value = line.split(maxsplit=1)
            values[tag.lower()] = value[0].strip().strip("'\"") if value else ""
    if not name:
        raise CifFault("no data_ block")
    try:
        lengths = tuple(_number(values[f"_cell_length_{axis}"]) for axis in "abc")
        angles = tuple(_number(values[f"_cell_angle_{axis}"]) for axis in ("alpha", "beta", "gamma"))
    except KeyError as err:
        raise CifFault(f"no {err.args[0]}") from err
    group = values.get("_space_group_name_h-m_alt") or values.get("_symmetry_space_group_name_h-m") or ""
    return Crystal(name, _formula(values, sites), lengths, angles, group, tuple(sites))  # type: ignore[arg-type]


def _formula(values: dict[str, str], sites: list[tuple[str, float, float, float]]) -> str:
    written = values.get("_chemical_formula_sum") or values.get("_chemical_formula_structural") or ""
    if written:
        try:
            return hill(*read_formula(written.replace(" ", "")))
        except FormulaFault as err:
            raise CifFault(f"_chemical_formula_sum: {err}") from err
    if not sites:
        raise CifFault("neither _chemical_formula_sum nor atom sites")
    return hill(Counter(element for element, *_ in sites))


def _loop(lines: list[str], at: int) -> tuple[list[tuple[str, float, float, float]], int]:
    """Sites of the loop whose tags begin at line `at` (none for other loops), and the line after it."""
    tags: list[str] = []
    while at < len(lines) and lines[at].startswith("_"):
        tags.append(lines[at].split()[0].lower())
        at += 1
    is_site_loop = all(f"_atom_site_fract_{axis}" in tags for axis in "xyz")
    sites = []
    while at < len(lines) and lines[at] and not lines[at].startswith(("_", "#", "loop_", "data_")):
        if is_site_loop:
            sites.append(_site(lines[at], tags))
        at += 1
    return sites, at


def _site(line: str, tags: list[str]) -> tuple[str, float, float, float]:
    try:
        cells = shlex.split(line)
    except ValueError as err:
        raise CifFault(f"a broken line in a loop: {line[:60]!r}") from err
    if len(cells) != len(tags):
        raise CifFault(f"{len(cells)} values for {len(tags)} tags in a loop: {line[:60]!r}")
    row = dict(zip(tags, cells, strict=True))
    symbol = re.match(r"[A-Z][a-z]?", row.get("_atom_site_type_symbol") or row.get("_atom_site_label", ""))
    if symbol is None:
        raise CifFault(f"a site without an element: {line[:60]!r}")
    x, y, z = (_number(row[f"_atom_site_fract_{axis}"]) for axis in "xyz")
    return symbol.group(), x, y, z


def _number(text: str) -> float:
    """A CIF number; its uncertainty in brackets is dropped. Raises CifFault."""
    try:
        number = float(re.sub(r"\(\d+\)$", "", text.strip()))
    except ValueError as err:
        raise CifFault(f"{text[:40]!r} is no number") from err
    if not math.isfinite(number):
        raise CifFault(f"{text[:40]!r} is no finite number")
    return number
