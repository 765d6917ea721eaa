"""Genetic codes (NCBI translation tables) and translation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache

from factory.errors import ConfigError

AMBIGUOUS: Mapping[str, str] = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""IUPAC letter -> the bases that it stands for."""
THREE: Mapping[str, str] = {
    "A": "Ala", "R": "Arg", "N": "Asn", "D": "Asp", "C": "Cys", "Q": "Gln", "E": "Glu", "G": "Gly", "H": "His", "I": "Ile",
    "L": "Leu", "K": "Lys", "M": "Met", "F": "Phe", "P": "Pro", "S": "Ser", "T": "Thr", "W": "Trp", "Y": "Tyr", "V": "Val",
    "U": "Sec", "O": "Pyl", "X": "Xaa", "*": "Ter",
}  # fmt: skip
"""One-letter amino acid -> three letters; `*` is `Ter`."""
ONE: Mapping[str, str] = {three: one for one, three in THREE.items()}


@cache
def genetic_code(number: int) -> Mapping[str, str]:
    """Codon in DNA letters -> amino acid, `*` for stop. Table 1 is the standard code, 2 that of vertebrate mitochondria.

    A codon that is both a stop and an amino acid in its table (27, 28, 31) counts as the amino acid.

    Raises:
        ConfigError: no such table.
    """
    from Bio.Data import CodonTable

    if number not in CodonTable.unambiguous_dna_by_id:
        known = ", ".join(map(str, sorted(CodonTable.unambiguous_dna_by_id)))
        raise ConfigError(f"there is no genetic code {number}. NCBI tables: {known}.")
    found = CodonTable.unambiguous_dna_by_id[number]
    return {**dict.fromkeys(found.stop_codons, "*"), **found.forward_table}


@cache
def start_codons(number: int) -> frozenset[str]:
    """Codons that may begin a protein in this code; they are then read as methionine."""
    from Bio.Data import CodonTable

    genetic_code(number)
    return frozenset(CodonTable.unambiguous_dna_by_id[number].start_codons)


@cache
def amino_acid(codon: str, number: int = 1) -> str:
    """One letter for a codon of DNA or RNA, in any case; `X` when its ambiguous letters allow several."""
    expanded = [AMBIGUOUS.get(letter, "") for letter in codon.upper()]
    found = {genetic_code(number)["".join(bases)] for bases in itertools.product(*expanded)}
    return found.pop() if len(found) == 1 else "X"


def translate(sequence: str, frame: int = 1, code: int = 1) -> str:
    """Protein in one-letter form, stops as `*`; bases left over at the end are not read.

    Args:
        sequence: DNA or RNA in any case.
        frame: 1, 2 or 3: the base at which reading begins.
        code: NCBI translation table.

    Raises:
        ConfigError: another frame, or an unknown code.
    """
    if frame not in (1, 2, 3):
        raise ConfigError(f"frame is {frame!r}; want 1, 2 or 3 (use the reverse complement for the other strand).")
    return "".join(amino_acid(codon, code) for codon in codons(sequence, frame))


def codons(sequence: str, frame: int = 1) -> list[str]:
    """The whole codons of a sequence from base `frame` on."""
    return [sequence[i : i + 3] for i in range(frame - 1, len(sequence) - 2, 3)]


def three_letters(protein: str) -> str:
    """`GV*` as `GlyValTer`."""
    return "".join(THREE.get(letter, "Xaa") for letter in protein.upper())
