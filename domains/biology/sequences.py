"""What can be computed of one DNA sequence: strands, composition, melting temperature, reading frames, restriction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from factory.domains.biology.codes import codons, genetic_code, translate
from factory.errors import ConfigError, near_miss

_COMPLEMENT = str.maketrans("ACGTURYSWKMBDHVNacgturyswkmbdhvn", "TGCAAYRSWMKVHDBNtgcaayrswmkvhdbn")
_COMPLEMENT_RNA = str.maketrans("ACGUacgu", "UGCAugca")


def complement(sequence: str) -> str:
    """The paired strand, read in the same direction; IUPAC letters and case are kept. RNA (a U and no T) gives RNA."""
    is_rna = "U" in sequence.upper() and "T" not in sequence.upper()
    return sequence.translate(_COMPLEMENT_RNA if is_rna else _COMPLEMENT)


def reverse_complement(sequence: str) -> str:
    """The paired strand, 5' to 3'."""
    return complement(sequence)[::-1]


def transcribe(coding: str) -> str:
    """RNA of a coding (sense) strand: T becomes U."""
    return coding.replace("T", "U").replace("t", "u")


def as_dna(sequence: str) -> str:
    """The sequence as a span that a model with a DNA encoder reads through it."""
    return f"<dna>{sequence}</dna>"


def gc_count(sequence: str) -> int:
    """Number of G and C (and S, which is one of them)."""
    return sum(letter in "GCS" for letter in sequence.upper())


def gc_percent(sequence: str) -> float:
    """Share of G and C among A, C, G, T and U in percent; 0 for a sequence without any. Ambiguous letters do not count."""
    letters = [letter for letter in sequence.upper() if letter in "ACGTU"]
    return 100.0 * sum(letter in "GC" for letter in letters) / len(letters) if letters else 0.0


def wallace(sequence: str) -> int:
    """Melting temperature in degrees Celsius by Wallace's rule, 2 (A+T) + 4 (G+C); for oligonucleotides below 14 bases."""
    upper = sequence.upper()
    return 2 * sum(letter in "ATUW" for letter in upper) + 4 * gc_count(upper)


# --- open reading frames ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Orf:
    """From a start codon to the first stop in its frame, the stop included."""

    start: int
    """First base, counted from 1 on the given strand; below `end` on both strands."""
    end: int
    """Last base of the stop codon (on `-`: the largest coordinate, where the start codon begins)."""
    strand: str
    protein: str
    """Without the stop."""

    @property
    def length(self) -> int:
        """Bases, the stop included."""
        return self.end - self.start + 1


def orfs(sequence: str, *, code: int = 1, both_strands: bool = False, starts: frozenset[str] = frozenset({"ATG"})) -> list[Orf]:
    """All frames from the first start after a stop to the next stop; longest first, then by place.

    Args:
        sequence: DNA.
        both_strands: also read the reverse complement; its coordinates are those of the given strand.
        starts: start codons; ATG alone unless said otherwise.
    """
    found = []
    for strand in "+-" if both_strands else "+":
        text = (sequence if strand == "+" else reverse_complement(sequence)).upper()
        found += [_placed(orf, len(text)) if strand == "-" else orf for orf in _one_strand(text, code, starts)]
    return sorted(found, key=lambda orf: (-orf.length, orf.strand, orf.start))


def _one_strand(text: str, code: int, starts: frozenset[str]) -> list[Orf]:
    stops = {codon for codon, letter in genetic_code(code).items() if letter == "*"}
    found = []
    for frame in (1, 2, 3):
        begin = None
        for number, codon in enumerate(codons(text, frame)):
            place = frame + 3 * number
            if begin is None and codon in starts:
                begin = place
            elif begin is not None and codon in stops:
                found.append(Orf(begin, place + 2, "+", "M" + translate(text[begin + 2 : place - 1], code=code)))
                begin = None
    return found


def _placed(orf: Orf, length: int) -> Orf:
    return Orf(length + 1 - orf.end, length + 1 - orf.start, "-", orf.protein)


# --- restriction --------------------------------------------------------------------------------------------------------

ENZYMES: Mapping[str, tuple[str, int]] = {
    "EcoRI": ("GAATTC", 1), "BamHI": ("GGATCC", 1), "HindIII": ("AAGCTT", 1), "PstI": ("CTGCAG", 5), "SmaI": ("CCCGGG", 3),
    "NotI": ("GCGGCCGC", 2), "AluI": ("AGCT", 2), "HaeIII": ("GGCC", 2), "TaqI": ("TCGA", 1), "MspI": ("CCGG", 1),
    "EcoRV": ("GATATC", 3), "XhoI": ("CTCGAG", 1), "KpnI": ("GGTACC", 5), "SacI": ("GAGCTC", 5), "SalI": ("GTCGAC", 1),
}  # fmt: skip
"""Enzyme -> recognition site on the upper strand, and how many of its bases stay left of the cut."""


def enzyme(name: str) -> tuple[str, int]:
    """Site and cut of an enzyme. Raises ConfigError (with a near miss) when the pack does not know it."""
    if name not in ENZYMES:
        raise ConfigError(f"unknown restriction enzyme {name!r}.{near_miss(name, ENZYMES)} Known: {', '.join(ENZYMES)}.")
    return ENZYMES[name]


def cuts(sequence: str, name: str, *, circular: bool = False) -> list[int]:
    """Places cut in the upper strand: the number of bases left of each cut, ascending. Overlapping sites all count.

    On a circle a site may cross the origin; a place equal to the length is written 0.
    """
    site, offset = enzyme(name)
    text = sequence.upper()
    around = text + text[: len(site) - 1] if circular and len(text) >= len(site) else text
    places = (hit.start() + offset for hit in re.finditer(f"(?={site})", around))
    return sorted(place % len(text) if circular else place for place in places)


def fragments(sequence: str, name: str, *, circular: bool = False) -> list[int]:
    """Lengths of the pieces in their order on the sequence (on a circle: from the first cut on); one whole piece without a cut."""
    places, length = cuts(sequence, name, circular=circular), len(sequence)
    if not places:
        return [length]
    if circular:
        return [(after - before) % length or length for before, after in zip(places, places[1:] + places[:1], strict=True)]
    return [after - before for before, after in zip([0, *places], [*places, length], strict=True)]
