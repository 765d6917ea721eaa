"""Rows of biology files and sets as Records.

| shape | what it is |
| --- | --- |
| fasta, fastq | sequences, as documents |
| annotated | GenBank and EMBL: sequences as documents, coding features as `translate` questions |
| vcf | variants; with `pack.reference` their sequences; with CLNSIG in INFO questions of `variant_disease` |
| bed, gtf | intervals; with `pack.reference` their sequences as documents |
| genomic-benchmarks | intervals of one class (from the file's name, or a label column), with `pack.reference` |
| bioreason | `question, answer, reference_sequence, variant_sequence` (or `mutated_sequence`), perhaps `reasoning` |
| sequence-label | GUE and alike: `sequence, label` |
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.domains.biology import taxa
from factory.domains.biology.answers import read_sequence
from factory.domains.biology.codes import three_letters
from factory.domains.biology.coordinates import Interval, from_half_open, from_inclusive, whole
from factory.domains.biology.generator import form_of, respond
from factory.domains.biology.genome import genome
from factory.domains.biology.options import Loading
from factory.domains.biology.sequences import as_dna
from factory.errors import DataError
from factory.packs.common_shapes import COMMON, RowShape
from factory.packs.records import DOCUMENTS, QUESTIONS, SAMPLES, Record

MAX_QUESTION_PROTEIN = 400
"""Residues of the longest coding feature that becomes a question."""


def _meta(settings: Loading, **more: Any) -> dict[str, Any]:
    """What every question's meta holds."""
    return {"thinking": settings.thinking, "form": form_of(settings.system), **more}


def _windows(sequence: str, size: int, first: int = 0) -> Iterator[tuple[int, str]]:
    """(bases before, piece) of at most `size` letters."""
    for start in range(0, len(sequence), size):
        yield first + start, sequence[start : start + size]


# --- sequences ----------------------------------------------------------------------------------------------------------


def _fasta(row: Mapping[str, Any], settings: Loading) -> list[Record]:
    name, about, sequence = row["fasta"], row["description"], row["sequence"]
    taxa.refuse([about], settings.allow_taxa, where=name)
    return [
        Record(
            DOCUMENTS, key=f"{name}:{start}", text=f">{about} {start + 1}-{start + len(piece)}\n{piece}", group=f"sequence={name}"
        )
        for start, piece in _windows(sequence, settings.window, row["start"])
    ]


def _fastq(row: Mapping[str, Any], settings: Loading) -> Record:
    taxa.refuse([row["description"]], settings.allow_taxa, where=row["fastq"])
    return Record(DOCUMENTS, key=row["fastq"], text=f"@{row['description']}\n{row['sequence']}", group=f"read={row['fastq']}")


def _annotated(row: Mapping[str, Any], settings: Loading) -> list[Record]:
    name = row["annotated"]
    taxa.refuse([row["organism"], *row["lineage"], row["description"]], settings.allow_taxa, where=name)
    group = f"record={name}"
    if "cds" not in row:
        return [
            Record(DOCUMENTS, key=f"{name}:{start}", group=group,
                   text=f">{name} {row['description']} {start + 1}-{start + len(piece)}\n{piece}")
            for start, piece in _windows(row["sequence"], settings.window)
        ]  # fmt: skip
    if row["translation"] is None:
        return []  # a pseudogene or an unfinished annotation: there is nothing to check against
    said = " ".join(part for part in (row["gene"], row["product"]) if part)
    facts = f"{said or row['cds']} of {row['organism']}: {row['bases']} codes for {row['translation']}"
    records = [Record(DOCUMENTS, key=f"{name}:{row['cds']}:{row['place']}:text", text=facts, group=group)]
    if len(row["translation"]) <= MAX_QUESTION_PROTEIN and row["bases"][:3] == "ATG":
        text = f"Translate this coding sequence with NCBI genetic code {row['code']}, one letter per residue: {row['bases']}"
        records.append(
            Record(SAMPLES, key=f"{name}:{row['cds']}:{row['place']}", text=text, task="translate", group=group,
                   reference=row["translation"], meta=_meta(settings, code=row["code"], three=three_letters(row["translation"][:3])))
        )  # fmt: skip
    return records


# --- intervals and variants ---------------------------------------------------------------------------------------------


def _contig(name: str, settings: Loading) -> str:
    if name in settings.contigs:
        return settings.contigs[name]
    if settings.contigs.get("chr*") == "*":
        return name.removeprefix("chr")
    if settings.contigs.get("*") == "chr*":
        return name if name.startswith("chr") else f"chr{name}"
    return name


def _bases(interval: Interval, settings: Loading) -> str:
    """The interval's own strand. Raises DataError when `pack.reference` is not set."""
    if not settings.reference:
        raise DataError("these rows have coordinates only. Set pack.reference=GENOME.fa (unpacked FASTA of the same assembly).")
    return interval.oriented(genome(settings.reference).fetch(interval))


def _interval_document(interval: Interval, said: str, settings: Loading, key: str) -> Record:
    meta = interval.to_meta(settings.assembly)
    text = f"{interval.name} {said}".strip()
    if settings.reference:
        text += f"\n{_bases(interval, settings)}"
    return Record(DOCUMENTS, key=key, text=text, group=f"place={interval.contig}:{interval.start // 1_000_000}", meta=meta)


def _bed(row: Mapping[str, Any], settings: Loading) -> Record:
    interval = from_half_open(_contig(row["bed"], settings), row["start"], row["end"], row["strand"])
    return _interval_document(interval, row["name"], settings, f"{interval.name}:{row['name']}")


def _gtf(row: Mapping[str, Any], settings: Loading) -> Record:
    strand = row["strand"] if row["strand"] in ("+", "-") else "."
    interval = from_inclusive(_contig(row["gtf"], settings), row["start"], row["end"], strand)
    known = row["attributes"]
    name = next((known[key] for key in ("transcript_id", "ID", "gene_id", "Name", "Parent") if key in known), "")
    return _interval_document(interval, f"{row['feature']} {name}".strip(), settings, f"{interval.name}:{row['feature']}:{name}")


def _vcf(row: Mapping[str, Any], settings: Loading) -> list[Record]:
    contig, first, reference = _contig(row["vcf"], settings), whole(row["pos"], "POS"), row["ref"].upper()
    if not re.fullmatch(r"[ACGTN]+", reference):
        raise RowFault("REF", f"is {row['ref']!r:.40}; want bases.")
    records = []
    place = from_inclusive(contig, first, first + len(reference) - 1, "+")
    for alt in row["alt"]:
        if alt in (".", "*", "<*>"):
            continue  # no variant, or one that another row describes
        if not re.fullmatch(r"[ACGTNacgtn]+", alt):
            raise RowFault("ALT", f"{alt!r:.40} is symbolic or a breakend; only sequences are read.")
        records.append(_variant(row, settings, place, reference, alt.upper()))
    if not records:
        raise RowFault("ALT", "names no variant (a row of the reference itself).")
    return records


def _variant(row: Mapping[str, Any], settings: Loading, place: Interval, reference: str, alt: str) -> Record:
    """One alternative allele, as a question when INFO has a significance, else as a document."""
    info, key = row["info"], f"{place.contig}:{place.start + 1}:{reference}>{alt}"
    meta: dict[str, Any] = {**place.to_meta(settings.assembly), "ref": reference, "alt": alt}
    if settings.reference:
        source = genome(settings.reference)
        around = place.widened(settings.flank, source.contigs[place.contig].length if place.contig in source.contigs else None)
        window = source.fetch(around)
        inside = place.start - around.start
        found = window[inside : inside + len(reference)]
        if found != reference:
            raise RowFault(
                "REF", f"the reference has {found!r:.40} at {place.name}, the row says {reference!r:.40}. Another assembly?"
            )
        meta |= {"reference_sequence": window, "variant_sequence": window[:inside] + alt + window[inside + len(reference) :]}
    group = f"place={place.contig}:{place.start // 1_000_000}"
    said = f"{place.contig}:{place.start + 1} {reference}>{alt}" + (f" {row['id']}" if row["id"] else "")
    significance = _significance(str(info.get("CLNSIG", "")))
    if not significance:
        return Record(DOCUMENTS, key=key, text=_with_sequences(said, meta, settings), group=group, meta=meta)
    gene = str(info.get("GENEINFO", "")).partition(":")[0]
    text = (
        f"Variant {said}{f' in {gene}' if gene else ''}. Is it benign, likely benign, likely pathogenic, pathogenic or uncertain?"
    )
    return Record(SAMPLES, key=key, text=_with_sequences(text, meta, settings), group=group, answer=significance, task="variant_disease",
                  meta=_meta(settings, labels=list(SIGNIFICANCES), **meta))  # fmt: skip


CODES = {
    "0": "uncertain", "2": "benign", "3": "likely benign", "4": "likely pathogenic", "5": "pathogenic",
    "uncertain significance": "uncertain",
}  # fmt: skip
"""CLNSIG as ClinVar wrote it until 2017 (numbers; 1, 6, 7 and 255 say nothing about disease), and today's longer name."""
SIGNIFICANCES = ("benign", "likely benign", "likely pathogenic", "pathogenic", "uncertain")


def _significance(text: str) -> str:
    """One of SIGNIFICANCES; empty when CLNSIG says another thing, or two different ones."""
    said = {part.replace("_", " ").strip().lower() for part in re.split(r"[,|/]", text)}
    found = {CODES.get(part, part) for part in said}
    return found.pop() if len(found) == 1 and found <= set(SIGNIFICANCES) else ""


def _with_sequences(text: str, meta: Mapping[str, Any], settings: Loading) -> str:
    if settings.sequences == "none" or "reference_sequence" not in meta:
        return text
    if settings.sequences == "dna":
        return f"{as_dna(meta['reference_sequence'])} {as_dna(meta['variant_sequence'])}\n{text}"
    return f"{text}\nReference sequence: {meta['reference_sequence']}\nVariant sequence: {meta['variant_sequence']}"


# --- sets ---------------------------------------------------------------------------------------------------------------


def _class_question(sequence: str, label: str, settings: Loading, group: str, **meta: Any) -> Record:
    names = settings.label_names
    if names and label not in names:
        raise RowFault("label", f"{label!r} is not among pack.label_names ({', '.join(names)}).")
    labels = sorted(set(names.values()))  # sorted: BioReason's issue 16 was an unordered set
    listed = f": {' or '.join(labels)}" if labels else ""
    text = f"{settings.class_question}{listed}?\n{middle(sequence, settings.max_bases)}"
    return Record(SAMPLES, text=text, answer=names.get(label, label), task="region_class", group=group,
                  meta=_meta(settings, labels=labels, sequence_length=len(sequence), **meta))  # fmt: skip


def _benchmark(row: Mapping[str, Any], settings: Loading) -> Record:
    strand = text_cell(row, "strand") if optional_cell(row, "strand") else "."
    contig = _contig(text_cell(row, "region", "chrom", "chr"), settings)
    interval = from_half_open(contig, cell(row, "start"), cell(row, "end"), strand)
    label = text_cell(row, "class_file", "label", "class")
    record = _class_question(_bases(interval, settings), label, settings, f"place={contig}:{interval.start // 1_000_000}",
                             **interval.to_meta(settings.assembly))  # fmt: skip
    key = optional_cell(row, "id")
    record.key = f"{label}:{key}:{interval.name}" if key is not None else f"{label}:{interval.name}"
    return record


def _sequence_label(row: Mapping[str, Any], settings: Loading) -> Record:
    raw = text_cell(row, "sequence", "seq")
    sequence = read_sequence(raw)
    if sequence is None:
        raise RowFault("sequence", f"{raw[:40]!r} is no sequence of DNA or RNA.")
    return _class_question(sequence, text_cell(row, "label", "class"), settings, f"sequence={_digest(sequence)}")


def middle(sequence: str, per_side: int) -> str:
    """At most `per_side` bases on each side of the middle, when the sequence is longer than twice that and 8 (BioReason's rule)."""
    if len(sequence) <= 2 * per_side + 8:
        return sequence
    centre = len(sequence) // 2
    return sequence[centre - per_side : centre + per_side]


def clean_answer(text: str) -> list[str]:
    """Accepted labels of a BioReason answer: `pathogenic; ['A_B', 'c']` is `pathogenic; a b` or `pathogenic; c`.

    Raises RowFault when nothing is left.
    """
    head, mark, tail = text.partition(";")
    head = _tidy(head)
    names: list[Any] = [tail]
    if tail.strip().startswith("["):
        try:
            listed = ast.literal_eval(tail.strip())
            names = listed if isinstance(listed, list) else [tail]
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            names = [part.strip(" '\"") for part in tail.strip(" []").split(",")]
    cleaned = [name for name in (_tidy(str(name)) for name in names) if name] if mark else []
    found = [f"{head}; {name}" for name in cleaned] if cleaned else [head]
    if not found[0].strip():
        raise RowFault("answer", f"{text!r:.60} holds no label.")
    return list(dict.fromkeys(found))


def _tidy(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).strip(" .'\"").lower()


def _bioreason(row: Mapping[str, Any], settings: Loading) -> Record:
    question, answers = text_cell(row, "question"), clean_answer(text_cell(row, "answer"))
    pair = {}
    for name, columns in {
        "reference_sequence": ("reference_sequence",),
        "variant_sequence": ("variant_sequence", "mutated_sequence"),
    }.items():
        sequence = read_sequence(text_cell(row, *columns))
        if sequence is None:
            raise RowFault(columns[0], f"{text_cell(row, *columns)[:40]!r} is no sequence of DNA.")
        pair[name] = middle(sequence, settings.max_bases)
    reasoning = optional_cell(row, "reasoning")
    worked = reasoning.strip() if isinstance(reasoning, str) else ""
    # Rows without reasoning are lessons only where none is asked for.
    is_lesson = bool(worked) or settings.thinking == "off"
    response = respond(worked, answers[0], settings.thinking, settings.system) if is_lesson else ""
    return Record(
        QUESTIONS if response else SAMPLES, text=_with_sequences(question, pair, settings), answer=answers[0], response=response,
        reference=answers if len(answers) > 1 else answers[0], task="variant_disease", meta=_meta(settings, **pair),
        group=f"sequence={_digest(pair['reference_sequence'])}",
    )  # fmt: skip


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _only(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


SHAPES = (
    RowShape("fasta", "sequences", (("fasta",), ("sequence",)), _only("fasta"), DOCUMENTS, _fasta),
    RowShape("fastq", "reads with qualities", (("fastq",), ("sequence",)), _only("fastq"), DOCUMENTS, _fastq),
    RowShape("annotated", "GenBank or EMBL", (("annotated",),), _only("genbank", "embl"), DOCUMENTS | SAMPLES, _annotated),
    RowShape("vcf", "variants", (("vcf",), ("pos",)), _only("vcf"), DOCUMENTS | SAMPLES, _vcf),
    RowShape("bed", "intervals", (("bed",),), _only("bed"), DOCUMENTS, _bed),
    RowShape("gtf", "features", (("gtf",),), _only("gtf"), DOCUMENTS, _gtf),
    RowShape("bioreason", "BioReason's KEGG and variant rows",
             (("question",), ("answer",), ("reference_sequence",), ("variant_sequence", "mutated_sequence")), None, QUESTIONS, _bioreason),
    RowShape("genomic-benchmarks", "intervals with a class",
             (("region", "chrom", "chr"), ("start",), ("end",), ("class_file", "label", "class")), None, SAMPLES, _benchmark),
    RowShape("sequence-label", "GUE and alike", (("sequence", "seq"), ("label", "class")), None, SAMPLES, _sequence_label),
    *COMMON,
)  # fmt: skip
"""From special to general: the first that fits is taken."""
