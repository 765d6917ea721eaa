"""Intervals on contigs. One convention inside, and the two of the field stated at its edges.

Inside: 0-based, half-open (`start` counts the bases before the interval), as BED and Python slices.
GTF, GFF, GenBank, VCF and HGVS count from 1 and include the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from factory.data.rows import RowFault
from factory.domains.biology.sequences import reverse_complement

CONVENTIONS = ("0-based half-open", "1-based inclusive")


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of a contig; `strand` is `+`, `-` or `.` (unknown)."""

    contig: str
    start: int
    end: int
    strand: str = "."

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise RowFault("start", f"{self.start} to {self.end} is empty or negative (0-based, half-open).")
        if self.strand not in ("+", "-", "."):
            raise RowFault("strand", f"is {self.strand!r}; want +, - or .")

    @property
    def length(self) -> int:
        """Bases."""
        return self.end - self.start

    def widened(self, flank: int, limit: int | None = None) -> Interval:
        """With `flank` more bases on both sides, cut at the contig's ends."""
        end = self.end + flank
        return Interval(self.contig, max(0, self.start - flank), end if limit is None else min(end, limit), self.strand)

    def oriented(self, sequence: str) -> str:
        """The interval's plus-strand sequence as its own strand reads."""
        return reverse_complement(sequence) if self.strand == "-" else sequence

    @property
    def name(self) -> str:
        """`chr1:101-200(+)`, counted from 1, both ends included, as genome browsers write it."""
        return f"{self.contig}:{self.start + 1}-{self.end}({self.strand})"

    def to_meta(self, assembly: str) -> dict[str, Any]:
        """For `Sample.meta`, with the convention in words."""
        return {
            "contig": self.contig, "start": self.start, "end": self.end, "strand": self.strand, "coordinates": CONVENTIONS[0],
            "assembly": assembly,
        }  # fmt: skip


def whole(text: Any, field: str) -> int:
    """A whole number of 0 or more. Raises RowFault."""
    shown = str(text).strip()
    if not (shown.isascii() and shown.isdigit()) or len(shown) > 12:
        raise RowFault(field, f"must be a whole number, got {text!r:.40}.")
    return int(shown)


def from_half_open(contig: str, start: Any, end: Any, strand: str = ".") -> Interval:
    """From BED-like numbers: 0-based, end excluded."""
    return Interval(contig, whole(start, "start"), whole(end, "end"), strand or ".")


def from_inclusive(contig: str, start: Any, end: Any, strand: str = ".") -> Interval:
    """From GTF-like numbers: counted from 1, end included."""
    first = whole(start, "start")
    if first < 1:
        raise RowFault("start", f"is {first}; GTF, GFF and VCF count from 1.")
    return Interval(contig, first - 1, whole(end, "end"), strand or ".")


def to_inclusive(interval: Interval) -> tuple[int, int]:
    """(first, last) counted from 1."""
    return interval.start + 1, interval.end
