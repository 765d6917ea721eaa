"""File formats of sequences and intervals, streamed as rows. Each row has a column named after its format."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.contracts import SPLITS
from factory.data.files import FileFormat, lines_of, open_checked
from factory.data.rows import RowFault

Rows = Iterator[tuple[int, dict[str, Any] | RowFault]]
CHUNK = 65_536
"""Letters of one row of a FASTA file; a chromosome becomes many rows and is never held whole."""
_LETTERS = re.compile(r"[A-Za-z*.-]*")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line without its end); a lone carriage return ends a line too. Raises RowFault for a file that is none, or no text."""
    number = 0
    with open_checked(path) as handle:
        for raw in lines_of(handle):
            text = raw.decode("utf-8-sig" if not number else "utf-8", errors="replace")
            for line in text.rstrip("\r\n").replace("\r\n", "\n").split("\r"):
                number += 1
                yield number, line


def read_fasta(path: Path) -> Rows:
    """Rows {fasta, description, sequence, start}; `start` counts the letters of the record before this row."""
    number, header, parts, size, start, fault = 0, None, [], 0, 0, None
    for line_number, line in _lines(path):
        if line.startswith(">"):
            if header is not None and (parts or fault or not start):
                number += 1
                yield number, fault or _fasta_row(header, parts, start)
            header, parts, size, start, fault = line[1:].strip(), [], 0, 0, None
            if not header:
                fault = RowFault("fasta", f"line {line_number}: the record has no name after '>'.")
            continue
        if not line.strip() or line.startswith(";"):
            continue
        if header is None:
            raise RowFault("file", f"line {line_number}: text before the first '>': {line[:40]!r}. Is it FASTA?")
        letters = line.replace(" ", "").strip()
        if not _LETTERS.fullmatch(letters):
            fault = fault or RowFault(
                "sequence", f"line {line_number}: {letters[:40]!r} has signs that are no letters of a sequence."
            )
        parts.append(letters)
        size += len(letters)
        if size >= CHUNK and fault is None:
            whole = "".join(parts)
            number += 1
            yield number, _fasta_row(header, [whole[:CHUNK]], start)
            parts, size, start = [whole[CHUNK:]] if whole[CHUNK:] else [], size - CHUNK, start + CHUNK
    if header is not None and (parts or fault or not start):
        number += 1
        yield number, fault or _fasta_row(header, parts, start)


def _fasta_row(header: str, parts: list[str], start: int) -> dict[str, Any] | RowFault:
    sequence = "".join(parts)
    if not sequence:
        return RowFault("sequence", f"record {header.split()[0]!r} is empty.")
    return {"fasta": header.split()[0], "description": header, "sequence": sequence, "start": start}


def read_fastq(path: Path) -> Rows:
    """Rows {fastq, description, sequence, quality}; four lines each (sequences wrapped over lines are not FASTQ as used today)."""
    lines = _lines(path)
    for number, (line_number, head) in enumerate(lines, start=1):
        if not head.strip():
            return
        rest = [next(lines, (0, None))[1] for _ in range(3)]
        if not head.startswith("@") or rest[1] is None or not str(rest[1]).startswith("+"):
            raise RowFault("file", f"line {line_number}: not a FASTQ record (@name, bases, +, qualities): {head[:40]!r}.")
        sequence, quality = str(rest[0]).strip(), rest[2]
        if quality is None:
            yield number, RowFault("quality", "the last record is cut short.")
            return
        if len(sequence) != len(quality) or not sequence:
            yield number, RowFault("quality", f"{len(sequence)} bases and {len(quality)} qualities.")
            continue
        yield number, {"fastq": head[1:].split()[0] if head[1:].split() else "", "description": head[1:].strip(), "sequence": sequence,
                       "quality": quality}  # fmt: skip


def read_genbank(path: Path) -> Rows:
    """See `annotated.read_annotated`."""
    from factory.domains.biology.annotated import read_annotated

    return read_annotated(path, "genbank")


def read_embl(path: Path) -> Rows:
    """See `annotated.read_annotated`."""
    from factory.domains.biology.annotated import read_annotated

    return read_annotated(path, "embl")


VCF_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")


def read_vcf(path: Path) -> Rows:
    """Rows {vcf (contig), pos (from 1), id, ref, alt (list), filter, info (mapping)}; genotypes are not read."""
    number, has_header = 0, False
    for line_number, line in _lines(path):
        if line.startswith("##") or not line.strip():
            continue
        if line.startswith("#"):
            has_header = True
            if tuple(line.split("\t")[:8]) != VCF_COLUMNS:
                mark = "spaces" if tuple(line.split()[:8]) == VCF_COLUMNS else "something else"
                raise RowFault(
                    "file", f"line {line_number}: columns are parted by {mark}; VCF wants tabs between {' '.join(VCF_COLUMNS)}."
                )
            continue
        if not has_header:
            raise RowFault("file", f"line {line_number}: a row before the line that begins with #CHROM.")
        number += 1
        cells = line.split("\t")
        if len(cells) < 8:
            yield number, RowFault("file", f"line {line_number}: {len(cells)} columns, want 8 or more.")
            continue
        info = dict(item.partition("=")[::2] for item in cells[7].split(";") if item not in ("", "."))
        yield number, {"vcf": cells[0], "pos": cells[1], "id": "" if cells[2] == "." else cells[2], "ref": cells[3],
                       "alt": cells[4].split(","), "filter": cells[6], "info": info}  # fmt: skip


def read_bed(path: Path) -> Rows:
    """Rows {bed (contig), start, end, name, strand}, 0-based and half-open."""
    number = 0
    for line_number, line in _lines(path):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        number += 1
        cells = line.split("\t") if "\t" in line else line.split()
        if len(cells) < 3:
            yield number, RowFault("file", f"line {line_number}: {len(cells)} columns, BED has 3 or more.")
            continue
        cells += [""] * (6 - len(cells))
        yield number, {"bed": cells[0], "start": cells[1], "end": cells[2], "name": cells[3], "strand": cells[5] or "."}


def read_gtf(path: Path) -> Rows:
    """Rows {gtf (contig), feature, start, end, strand, attributes}, counted from 1, both ends included; GTF 2 and GFF 3."""
    number = 0
    for line_number, line in _lines(path):
        if line.startswith("##FASTA"):
            return
        if not line.strip() or line.startswith("#"):
            continue
        number += 1
        cells = line.split("\t")
        if len(cells) != 9:
            yield number, RowFault("file", f"line {line_number}: {len(cells)} columns parted by tabs, GTF and GFF have 9.")
            continue
        yield number, {"gtf": cells[0], "feature": cells[2], "start": cells[3], "end": cells[4], "strand": cells[6],
                       "attributes": _attributes(cells[8])}  # fmt: skip


def _attributes(text: str) -> dict[str, str]:
    """`gene_id "X"; ...` (GTF) or `ID=X;...` (GFF 3)."""
    found = {}
    for part in re.split(r";\s*(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", text.strip().rstrip(";"))[:200] if len(text) < 10_000 else ():
        key, mark, value = part.strip().partition("=") if re.match(r"[^\s\"]+=", part.strip()) else part.strip().partition(" ")
        if mark:
            found.setdefault(key, value.strip().strip('"'))
    return found


CLASS_FILES = ("positive", "negative", "enhancer", "promoter", "ocr", "human", "worm", "coding_seqs", "intergenomic_seqs")
"""Names of the class files of Genomic Benchmarks: the class is in the file's name."""


def read_class_file(path: Path) -> Rows:
    """Rows of a Genomic Benchmarks CSV (`SET/test/positive.csv.gz`) with the class from the file's name in `class_file` and the
    split from its folder's; other CSVs of these names as they are."""
    stem = path.name.lower().removesuffix(".gz").removesuffix(".csv")
    label = next(name for name in CLASS_FILES if stem.endswith(name))
    split = {"split": path.parent.name} if path.parent.name in SPLITS else {}
    rows = csv.DictReader(line for _, line in _lines(path))
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            yield (
                number,
                RowFault("file", f"{len(row)} cells do not fit the header ({', '.join(map(str, rows.fieldnames or ()))})."),
            )
            continue
        is_interval = {"region", "start", "end", "strand"} <= set(row)
        yield number, {**row, "class_file": label, **split} if is_interval else dict(row)


FORMATS = (
    FileFormat(
        "fasta", (".fasta", ".fa", ".fna", ".ffn", ".frn", ".faa", ".fas"), "FASTA (.fasta, .fa, .fna, .ffn, .faa)", read_fasta
    ),
    FileFormat("fastq", (".fastq", ".fq"), "FASTQ (.fastq, .fq)", read_fastq),
    FileFormat("genbank", (".gb", ".gbk", ".gbff", ".genbank"), "GenBank (.gb, .gbk, .gbff)", read_genbank),
    FileFormat("embl", (".embl",), "EMBL (.embl)", read_embl),
    FileFormat("vcf", (".vcf",), "VCF (.vcf)", read_vcf),
    FileFormat("bed", (".bed",), "BED, 0-based half-open (.bed)", read_bed),
    FileFormat("gtf", (".gtf", ".gff", ".gff3"), "GTF or GFF, from 1 inclusive (.gtf, .gff, .gff3)", read_gtf),
    FileFormat(
        "class-csv", tuple(f"{name}.csv" for name in CLASS_FILES), "Genomic Benchmarks (positive.csv, ...)", read_class_file
    ),
)
