"""GenBank and EMBL records as rows: one for each record's sequence, one for each protein-coding feature of it."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from factory.data.files import open_checked
from factory.data.rows import RowFault
from factory.domains.biology.codes import ONE, amino_acid, codons, start_codons, translate


def read_annotated(path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """Rows {annotated, sequence, organism, lineage, description} and {annotated, cds, place, translation, ...}, one record at a time.

    A coding feature whose `/translation` is not what its bases code for becomes a RowFault naming both.
    """
    from Bio import BiopythonWarning, SeqIO
    from Bio.Seq import UndefinedSequenceError

    number = 0
    with (
        open_checked(path) as handle,
        io.TextIOWrapper(handle, encoding="utf-8", errors="replace") as text,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", BiopythonWarning)
        records = SeqIO.parse(text, kind)
        while True:
            try:
                record = next(records, None)
            except RowFault:
                raise
            except Exception as err:  # Biopython raises many types on damaged records: ValueError, IndexError, AttributeError ...
                raise RowFault(
                    "file", f"record {number + 1} cannot be read: {type(err).__name__}: {str(err)[:160]}. Is it {kind}?"
                ) from err
            if record is None:
                break
            about = {
                "annotated": record.id, "organism": str(record.annotations.get("organism", "")), "description": record.description,
                "lineage": [str(name) for name in record.annotations.get("taxonomy", ())],
            }  # fmt: skip
            number += 1
            try:
                yield number, {**about, "sequence": str(record.seq).upper()}
            except UndefinedSequenceError:
                yield number, RowFault("sequence", f"record {record.id} has no sequence of its own (a CONTIG record).")
                continue
            for feature in record.features:
                if feature.type == "CDS":
                    number += 1
                    yield number, _coding(record, feature, about)
    if not number:
        raise RowFault("file", f"holds no {kind} record.")


def _coding(record: Any, feature: Any, about: dict[str, Any]) -> dict[str, Any] | RowFault:
    said = feature.qualifiers
    name = (said.get("protein_id") or said.get("locus_tag") or said.get("gene") or ["CDS"])[0]
    place = str(feature.location)
    if "translation" not in said:
        return {**about, "cds": name, "place": place, "translation": None}
    if feature.location is None:
        return RowFault("CDS", f"{name} has no place that can be read.")
    if any(part.ref for part in feature.location.parts):
        return RowFault("CDS", f"{name} at {place} joins sequences of other records, which are not in this file.")
    try:
        frame, code = int(said.get("codon_start", ["1"])[0]), int(said.get("transl_table", ["1"])[0])
        bases = str(feature.extract(record.seq)).upper()
    except ValueError as err:
        return RowFault("CDS", f"{name} at {place} cannot be read: {err}.")
    coding = bases[frame - 1 :]
    ours = coded_protein(coding, code, is_partial=_is_open_at_start(feature.location), exceptions=_exceptions(feature, frame))
    theirs = re.sub(r"\s", "", said["translation"][0])
    if ours != theirs:
        return RowFault("translation", f"{name} at {place}: the bases code for {_shorter(ours, theirs)}.")
    return {**about, "cds": name, "place": place, "bases": coding, "code": code, "translation": theirs,
            "gene": (said.get("gene") or [""])[0], "product": (said.get("product") or [""])[0]}  # fmt: skip


def coded_protein(coding: str, code: int, *, is_partial: bool = False, exceptions: dict[int, str] | None = None) -> str:
    """The protein of a coding feature, as `/translation` writes it: the first codon as M where it may start, no stop at the end.

    Args:
        coding: bases from the first codon on.
        is_partial: the feature's beginning lies outside the record, so that its first codon is read like any other.
        exceptions: residue number (from 0) -> amino acid, from `/transl_except`.
    """
    protein = translate(coding, code=code)
    if len(coding) % 3 and amino_acid_of_rest(coding, code):
        protein += amino_acid_of_rest(coding, code)
    if protein and not is_partial and coding[:3] in start_codons(code):
        protein = "M" + protein[1:]
    for index, letter in (exceptions or {}).items():
        if index < len(protein):
            protein = protein[:index] + letter + protein[index + 1 :]
    return protein.removesuffix("*")


def amino_acid_of_rest(coding: str, code: int) -> str:
    """The residue that one or two last bases already decide (GenBank translates `GG` as G); empty when they do not."""
    rest = coding[len(codons(coding)) * 3 :]
    found = amino_acid(rest + "N" * (3 - len(rest)), code)
    return "" if found in ("X", "*") else found


def _is_open_at_start(location: Any) -> bool:
    edge = location.parts[0]
    return type(edge.end if edge.strand == -1 else edge.start).__name__ in ("BeforePosition", "AfterPosition", "UnknownPosition")


def _exceptions(feature: Any, frame: int) -> dict[int, str]:
    """Residue numbers and letters of `/transl_except=(pos:213..215,aa:Sec)`; the stop completed by poly-A is `TERM`."""
    found = {}
    for text in feature.qualifiers.get("transl_except", ()):
        hit = re.search(r"pos:(?:complement\()?(\d+)(?:\.\.(\d+))?\)?,\s*aa:(\w+)", text)
        if hit is None:
            continue
        places = [place for part in feature.location.parts
                  for place in (range(part.start, part.end) if part.strand != -1 else range(part.end - 1, part.start - 1, -1))]  # fmt: skip
        ends = [int(hit[1]) - 1, int(hit[2] or hit[1]) - 1]
        inside = [places.index(end) for end in ends if end in places]
        if inside:
            letter = "*" if hit[3] == "TERM" else ONE.get(hit[3], "X")
            found[(min(inside) - frame + 1) // 3] = letter
    return found


def _shorter(ours: str, theirs: str) -> str:
    """Where two proteins first differ."""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"{ours[at : at + 8] or 'nothing'!r} at residue {at + 1}, the record says {theirs[at : at + 8] or 'nothing'!r}"
