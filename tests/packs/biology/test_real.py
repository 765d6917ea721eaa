"""Real files: every translation in the GenBank records, codon alignments, HGVS transcripts, VCF and interval files."""

import csv
import gzip

import pytest
from Bio import SeqIO

from factory.domains.biology import formats
from factory.domains.biology.codes import translate
from factory.domains.biology.coordinates import from_half_open, from_inclusive, to_inclusive
from factory.domains.biology.loaders import LOADER
from factory.domains.biology.variants import effect, name_c, name_p

ALLOWED = {"allow_taxa": ["Yersinia pestis"], "allow_taxa_reason": "a public plasmid record used to test the parser"}
EXCEPTIONS = {"pBAD30.gb": {"[1081:1960](-)", "[2866:3730](+)"}}
"""Coding features without a /translation, by file; there is no feature whose /translation differs from ours."""


def coding_rows(path):
    return [row for _, row in formats.read_genbank(path) if isinstance(row, dict) and "cds" in row]


@pytest.mark.parametrize("name", ["NC_005816.gb", "arab1.gb", "cor6_6.gb", "ls_orchid.gbk.gz", "pBAD30.gb"])
def test_every_translation_equals_ours(real, name):
    path = real / "genbank" / name
    bad = [row for _, row in formats.read_genbank(path) if not isinstance(row, dict)]
    assert bad == []
    rows = coding_rows(path)
    assert {row["place"] for row in rows if row["translation"] is None} == EXCEPTIONS.get(name, set())
    assert sum(row["translation"] is not None for row in rows) == COUNTS[name]


COUNTS = {"NC_005816.gb": 10, "arab1.gb": 18, "cor6_6.gb": 6, "ls_orchid.gbk.gz": 0, "pBAD30.gb": 0}


def test_our_places_equal_biopython_s(real):
    for record in SeqIO.parse(str(real / "genbank" / "NC_005816.gb"), "genbank"):
        for feature in record.features:
            for part in (part for part in feature.location.parts if part.end > part.start):  # one place lies between two bases
                first, last = int(part.start) + 1, int(part.end)
                inside = from_inclusive(record.id, first, last)
                assert (inside.start, inside.end) == (int(part.start), int(part.end))
                assert to_inclusive(from_half_open(record.id, int(part.start), int(part.end))) == (first, last)


def test_the_plasmid_is_of_a_listed_organism_and_needs_a_reason(real, load):
    from factory.errors import DataError

    with pytest.raises(DataError, match="Yersinia pestis"):
        LOADER.check(load(real / "genbank" / "NC_005816.gb"))
    report = LOADER.check(load(real / "genbank", **ALLOWED))
    assert (report.num_bad, report.tallies["samples"]) == (0, SAMPLES_IN_GENBANK)


SAMPLES_IN_GENBANK = 20


def aligned_proteins(path):
    """Rows of a Clustal file without gaps, by name."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines()[1:]:
        if line[:1].strip():
            name, piece = line.split()[:2]
            found[name] = found.get(name, "") + piece.replace("-", "")
    return found


@pytest.mark.parametrize(("genes", "alignment", "count"), [("egfr_nucl.fa", "egfr_pro.aln", 6), ("nucl2.fa", "pro2.aln", 3)])
def test_aligned_proteins_are_in_our_translations(real, genes, alignment, count):
    """The transcripts of a codon alignment code, in one of three frames, for the proteins aligned beside them."""
    read = [
        translate(str(record.seq).upper(), frame)
        for record in SeqIO.parse(str(real / "codonalign" / genes), "fasta") for frame in (1, 2, 3)
    ]  # fmt: skip
    proteins = aligned_proteins(real / "codonalign" / alignment)
    missing = {name for name, protein in proteins.items() if not any(protein in text for text in read)}
    assert len(proteins) == count
    assert missing == UNREADABLE.get(alignment, set())


UNREADABLE = {"egfr_pro.aln": {"gi|47522840|ref|NP_999172.1|"}}
"""Pig EGFR: residue 450 is L in the protein row, its transcript has ATG (M) there. All else agrees."""


def test_toy_transcripts_of_biocommons(real):
    """Nine transcripts with their coding part: all begin with ATG, and effects and names of changes in them are consistent."""
    with (real / "hgvs" / "sanity_cp.tsv").open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert len(rows) == 9
    for row in rows:
        cds = row["transcript_sequence"][int(row["cds_start_i"]) : int(row["cds_end_i"])]
        assert cds.startswith("ATG")
        variant = cds[:4] + {"A": "G", "C": "T", "G": "A", "T": "C"}[cds[4]] + cds[5:]
        assert name_c(cds, variant) == f"c.5{cds[4]}>{variant[4]}"
        assert effect(cds, variant) in ("missense", "nonsense", "synonymous")
    cds = rows[0]["transcript_sequence"][9:39]  # ATG AAA GCG AAA GCG TTT CGC GCG AAA TAG; AAA to AAT is Lys to Asn
    assert translate(cds) == "MKAKAFRAK*"
    assert name_p(cds, cds[:5] + "T" + cds[6:]) == "p.(Lys2Asn)"


def test_the_exemplars_vcf(real, load):
    report = LOADER.check(load(real / "hgvs" / "exemplars.vcf.gz"))
    assert (report.num_good, report.num_bad) == (9, 0)


def test_the_small_vcf_has_spaces_for_tabs(real, load):
    report = LOADER.check(load(real / "hgvs" / "test.vcf"))
    assert report.num_good == 0
    assert "parted by spaces" in report.first_bad[0].reason


@pytest.mark.parametrize(
    ("name", "length"), [("human_nontata_promoters_test_positive", 251), ("human_nontata_promoters_test_negative", 251)]
)
def test_promoter_intervals_are_half_open(real, name, length):
    """The set's windows are 251 bases long: end - start is the length only when the end is excluded."""
    rows = [row for _, row in formats.read_class_file(real / "genomic_benchmarks" / f"{name}.csv.gz")]
    assert {from_half_open(r["region"], r["start"], r["end"], r["strand"]).length for r in rows} == {length}
    assert {row["class_file"] for row in rows} == {name.rpartition("_")[2]}


def test_coordinates_of_the_sets_round_trip(real):
    count = 0
    for path in sorted((real / "genomic_benchmarks").glob("*.csv.gz")):
        with gzip.open(path, "rt") as handle:
            for row in csv.DictReader(handle):
                inside = from_half_open(row["region"], row["start"], row["end"], row["strand"])
                assert from_inclusive(row["region"], *to_inclusive(inside), row["strand"]) == inside
                count += 1
    assert count == 10_764


def test_fasta_files_are_read_whole(real):
    for path in (
        real / "fasta" / "ls_orchid.fasta",
        real / "genbank" / "NC_005816.fna",
        real / "codonalign" / "drosophila.fasta",
    ):
        ours = [(row["fasta"], row["sequence"]) for _, row in formats.read_fasta(path)]
        assert ours == [(record.id, str(record.seq)) for record in SeqIO.parse(str(path), "fasta")]
