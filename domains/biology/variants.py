"""Variants of a coding sequence: how two sequences differ, what follows for the protein, and both in HGVS notation.

A coding sequence (CDS) begins with its start codon and ends with its stop codon; position 1 is the first base of the start.
Lower-case letters are introns. HGVS: https://hgvs-nomenclature.org (3' rule, `dup` before `ins`, `inv`, `delins`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from factory.domains.biology.codes import THREE, three_letters, translate
from factory.domains.biology.sequences import reverse_complement

EFFECTS = ("synonymous", "missense", "nonsense", "start lost", "stop lost", "in-frame", "frameshift", "splice site")
"""What a variant of a coding sequence does; `splice site` is a changed GT or AG at an intron's end."""


@dataclass(frozen=True, slots=True)
class Change:
    """`removed` from base `start` on (counted from 1) became `inserted`; as far to the 3' end as the sequences allow."""

    start: int
    removed: str
    inserted: str

    @property
    def end(self) -> int:
        """Last removed base; `start - 1` for an insertion."""
        return self.start + len(self.removed) - 1


def difference(reference: str, variant: str) -> Change | None:
    """The smallest single change from one sequence to the other, at its 3'-most place; None when they are equal."""
    if reference == variant:
        return None
    shortest = min(len(reference), len(variant))
    head = next((i for i in range(shortest) if reference[i] != variant[i]), shortest)
    tail = 0
    while tail < shortest - head and reference[-1 - tail] == variant[-1 - tail]:
        tail += 1
    return Change(head + 1, reference[head : len(reference) - tail], variant[head : len(variant) - tail])


def apply(reference: str, change: Change) -> str:
    """The changed sequence. Raises ValueError when the reference does not hold what the change removes."""
    found = reference[change.start - 1 : change.end]
    if found != change.removed or not 1 <= change.start <= len(reference) + 1:
        raise ValueError(f"the reference has {found!r} at {change.start}, not {change.removed!r}")
    return reference[: change.start - 1] + change.inserted + reference[change.end :]


# --- names on the DNA ---------------------------------------------------------------------------------------------------


def name_c(reference: str, variant: str) -> str:
    """The change as `c.5G>T`, `c.4_6del`, `c.4dup`, `c.4_5insAA`, `c.4_6inv`, `c.4_6delinsA` or `c.=`.

    Positions are of the whole text: for a reference with introns in lower case, positions in introns are written `c.6+1`.
    """
    change = difference(reference, variant)
    if change is None:
        return "c.="
    at = _places(reference)
    removed, inserted = change.removed.upper(), change.inserted.upper()
    if len(removed) == len(inserted) == 1:
        return f"c.{at(change.start)}{removed}>{inserted}"
    if not removed:
        before = reference[change.start - 1 - len(inserted) : change.start - 1].upper() if change.start > len(inserted) else ""
        if before == inserted:
            return f"c.{_span(at, change.start - len(inserted), change.start - 1)}dup"
        return f"c.{at(change.start - 1)}_{at(change.start)}ins{inserted}"
    span = _span(at, change.start, change.end)
    if not inserted:
        return f"c.{span}del"
    if len(removed) == len(inserted) and inserted == reverse_complement(removed):
        return f"c.{span}inv"
    return f"c.{span}delins{inserted}"


def _places(reference: str) -> Callable[[int], str]:
    """Index from 1 -> position as HGVS counts it: exon bases only, intron bases from the nearer exon end."""
    introns = [(hit.start() + 1, hit.end()) for hit in re.finditer(r"[a-z]+", reference)]

    def at(index: int) -> str:
        before = sum(min(end, index) - start + 1 for start, end in introns if start <= index)
        inside = next(((start, end) for start, end in introns if start <= index <= end), None)
        if inside is None:
            return str(index - before)
        start, end = inside
        last = index - before  # the last exon base before the intron
        left, right = index - start + 1, end - index + 1
        return f"{last}+{left}" if left <= right else f"{last + 1}-{right}"

    return at


def _span(at: Callable[[int], str], first: int, last: int) -> str:
    return at(first) if first == last else f"{at(first)}_{at(last)}"


# --- what follows for the protein ---------------------------------------------------------------------------------------


def spliced(sequence: str) -> str:
    """The exons, without lower-case introns."""
    return re.sub(r"[a-z]+", "", sequence)


def effect(reference: str, variant: str, code: int = 1) -> str:
    """One of EFFECTS. A change of an intron that spares its first and last two bases is `synonymous`: the protein stays.

    Any change of the first codon is `start lost` (Met1? in HGVS). An indel whose length is no multiple of three is a
    `frameshift` even where the new frame stops at once; `name_p` then calls it by the stop.

    Raises:
        ValueError: the sequences are equal.
    """
    change = difference(reference, variant)
    if change is None:
        raise ValueError("reference and variant are equal: there is no effect to name")
    if _breaks_splice(reference, change):
        return "splice site"
    before, after = spliced(reference), spliced(variant)
    if after[:3].upper() != before[:3].upper():
        return "start lost"
    gained = len(after) - len(before)
    if gained % 3:
        return "frameshift"
    old, new = protein_of(before, code), protein_of(after, code)
    if not new.endswith("*") or len(new) > len(old) + gained // 3:
        return "stop lost"
    if len(new) < len(old) + gained // 3:
        return "nonsense"
    if gained:
        return "in-frame"
    return "missense" if old != new else "synonymous"


def protein_of(cds: str, code: int = 1) -> str:
    """The protein of a coding sequence with its stop as `*`; what follows the first stop is not read."""
    read = translate(cds, code=code)
    return read[: read.index("*") + 1] if "*" in read else read


def _breaks_splice(reference: str, change: Change) -> bool:
    touched = range(change.start, max(change.end, change.start) + 1)
    for hit in re.finditer(r"[a-z]+", reference):
        first, last = hit.start() + 1, hit.end()
        if any(place in touched for place in (first, first + 1, last - 1, last)):
            return True
    return False


def name_p(reference: str, variant: str, code: int = 1) -> str:
    """The predicted change of the protein: `p.(Gly2Val)`, `p.(Gly2=)`, `p.(Gln3Ter)`, `p.(Met1?)`, `p.(Gly8fs)`,
    `p.(Ter4GlnextTer?)`, `p.(Gly2_Gln3del)`, `p.(Gly2dup)`, `p.(Gly2_Gln3insVal)`, `p.(Gly2delinsValLeu)` or `p.?` (splice).

    Frameshifts have the short form; one whose first new codon is a stop is nonsense, as HGVS wants it.
    """
    kind = effect(reference, variant, code)
    if kind == "splice site":
        return "p.?"
    if kind == "start lost":
        return "p.(Met1?)"
    old, new = protein_of(spliced(reference), code), protein_of(spliced(variant), code)
    if old == new:
        change = difference(spliced(reference), spliced(variant))
        return "p.(=)" if change is None else _silent(old, change)
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    if old[first : first + 1] in ("*", ""):  # the stop codon itself is changed
        return f"p.(Ter{first + 1}{THREE[new[first]]}extTer?)" if first < len(new) else "p.?"
    here = _residue(old, first + 1)
    if new[first : first + 1] == "*":
        return f"p.({here}Ter)"
    if kind == "frameshift":
        return f"p.({here}fs)"
    if kind == "stop lost":
        return "p.?"
    if kind == "nonsense":
        return f"p.({_residues(old, first + 1, len(old) - 1)}delins{three_letters(new[first:])})"
    return f"p.({_protein_change(old, new)})"


def _silent(protein: str, change: Change) -> str:
    first, last = (change.start + 2) // 3, (change.end + 2) // 3
    if first == last and len(change.removed) == len(change.inserted):
        return f"p.({_residue(protein, first)}=)"
    return "p.(=)"


def _residue(protein: str, position: int) -> str:
    return f"{THREE[protein[position - 1]]}{position}"


def _protein_change(old: str, new: str) -> str:
    change = difference(old, new)
    assert change is not None
    added = "".join(THREE[letter] for letter in change.inserted)
    if not change.removed:
        size = len(change.inserted)
        start = change.start - size
        if start >= 1 and old[start - 1 : change.start - 1] == change.inserted:
            return f"{_residues(old, start, change.start - 1)}dup"
        return f"{_residue(old, change.start - 1)}_{_residue(old, change.start)}ins{added}"
    span = _residues(old, change.start, change.end)
    if not change.inserted:
        return f"{span}del"
    return f"{span}{added}" if len(change.removed) == len(change.inserted) == 1 else f"{span}delins{added}"


def _residues(protein: str, first: int, last: int) -> str:
    return _residue(protein, first) if first == last else f"{_residue(protein, first)}_{_residue(protein, last)}"
