"""Random access to a reference FASTA: an index of line lengths (samtools' `.fai` where it lies beside the file), then seeks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from factory.data.rows import RowFault
from factory.domains.biology.coordinates import Interval
from factory.errors import DataError, near_miss


@dataclass(frozen=True, slots=True)
class Contig:
    """Where one sequence lies in the file, as a `.fai` line says."""

    length: int
    offset: int
    """Byte of its first base."""
    line_bases: int
    line_bytes: int


class Genome:
    """A reference FASTA, uncompressed. Nothing but its index is held in memory."""

    def __init__(self, path: Path) -> None:
        """Raises DataError: the file is missing, gzipped, or has lines of uneven length."""
        self.path = path
        if not path.is_file():
            raise DataError(f"{path}: no such reference FASTA. Set pack.reference to the genome that the coordinates are of.")
        with path.open("rb") as handle:
            if handle.read(2) == b"\x1f\x8b":
                raise DataError(
                    f"{path}: is gzipped; single bases cannot be read from it. Unpack it (gunzip -k) and name that file."
                )
        index = Path(f"{path}.fai")
        self.contigs = _read_fai(index, path.stat().st_size) if index.is_file() else _scan(path)

    def fetch(self, interval: Interval) -> str:
        """Bases of an interval on the plus strand, in capitals. Raises RowFault for an unknown contig or one beyond its end."""
        contig = self.contigs.get(interval.contig)
        if contig is None:
            raise RowFault("contig", f"{interval.contig!r} is not in {self.path.name}.{near_miss(interval.contig, self.contigs)} "
                                     "Contig names must agree (chr1 or 1): set pack.contigs.")  # fmt: skip
        if interval.end > contig.length:
            raise RowFault(
                "end", f"{interval.name} is beyond the end of {interval.contig} ({contig.length} bases). Another assembly?"
            )
        first, last = _byte(contig, interval.start), _byte(contig, interval.end - 1)
        with self.path.open("rb") as handle:
            handle.seek(first)
            raw = handle.read(last - first + 1)
        bases = raw.replace(b"\n", b"").replace(b"\r", b"")
        if len(bases) != interval.length or not bases.isascii():
            raise RowFault(
                "contig", f"{self.path.name} has no {interval.length} bases at {interval.name}: it is damaged, or its .fai is of another "
                "file. Make the index anew with samtools faidx, or copy the FASTA again."
            )  # fmt: skip
        return bases.decode("ascii").upper()


@lru_cache(maxsize=4)
def genome(path: str) -> Genome:
    """The genome of a path, indexed once."""
    return Genome(Path(path).expanduser())


def _byte(contig: Contig, base: int) -> int:
    return contig.offset + base // contig.line_bases * contig.line_bytes + base % contig.line_bases


def _read_fai(path: Path, size: int) -> dict[str, Contig]:
    """The contigs of an index beside a FASTA of `size` bytes. Raises DataError for a line that is none, or that leads out of the file."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        cells = line.split("\t")
        if len(cells) < 5 or not all(cell.isascii() and cell.isdigit() and len(cell) < 16 for cell in cells[1:5]):
            raise DataError(
                f"{path}:{number}: is no line of a FASTA index. Delete the file, or make it anew with samtools faidx."
            )
        contig = Contig(*map(int, cells[1:5]))
        if (
            contig.line_bases < 1
            or contig.line_bytes < contig.line_bases
            or (contig.length and _byte(contig, contig.length - 1) >= size)
        ):
            raise DataError(
                f"{path}:{number}: does not fit the FASTA beside it. Delete the index, or make it anew with samtools faidx."
            )
        found[cells[0]] = contig
    return found


def _scan(path: Path) -> dict[str, Contig]:
    found: dict[str, Contig] = {}
    name, offset, length, bases, size, is_short, place = "", 0, 0, 0, 0, False, 0
    with path.open("rb") as handle:
        for line in handle:
            place += len(line)
            if line.startswith(b">"):
                if name:
                    found[name] = Contig(length, offset, bases or 1, size or 1)
                name = line[1:].split()[0].decode("ascii", "replace") if line[1:].split() else ""
                offset, length, bases, size, is_short = place, 0, 0, 0, False
                continue
            row = line.rstrip(b"\r\n")
            if not row:
                continue
            bases, size = bases or len(row), size or len(line)
            if is_short or len(row) > bases:
                raise DataError(
                    f"{path}: the lines of {name} have uneven lengths, so places in it cannot be found. Re-wrap it (seqkit seq -w 60)."
                )
            is_short = len(row) < bases
            length += len(row)
    if name:
        found[name] = Contig(length, offset, bases or 1, size or 1)
    if not found:
        raise DataError(f"{path}: holds no FASTA record. Give a FASTA file: its first line begins with >.")
    return found
