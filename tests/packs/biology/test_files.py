"""File formats, coordinates and row shapes on small files written here: what is read, what is refused, and in which words."""

import gzip
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import DataRequest
from factory.data.rows import RowFault
from factory.domains.biology import formats, shapes, taxa
from factory.domains.biology.coordinates import Interval, from_half_open, from_inclusive, to_inclusive
from factory.domains.biology.genome import Genome
from factory.domains.biology.loaders import LOADER
from factory.domains.biology.sequences import reverse_complement
from factory.errors import ConfigError, DataError

GENOME = ">chr1 first\nACGTACGTAC\nGGGGCCCCTT\nAT\n>chr2\nTTTTT\n"


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def faults(request: DataRequest) -> list[str]:
    return [f"{bad.field}: {bad.reason}" for bad in LOADER.check(request).first_bad]


# --- coordinates --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from("+-."))
def test_coordinates_round_trip(start, length, strand):
    inside = from_half_open("1", str(start), str(start + length), strand)
    first, last = to_inclusive(inside)
    assert from_inclusive("1", first, last, strand) == inside
    assert inside.length == last - first + 1 == length


@pytest.mark.parametrize(("start", "end", "reason"), [("5", "5", "is empty"), ("-1", "4", "whole number"), ("a", "4", "whole number"),
                                                      ("٣", "9", "whole number")])  # fmt: skip
def test_bad_coordinates(start, end, reason):
    with pytest.raises(RowFault, match=reason):
        from_half_open("1", start, end)


def test_gtf_counts_from_one():
    with pytest.raises(RowFault, match="count from 1"):
        from_inclusive("1", "0", "4")


def test_a_genome_is_read_at_any_place(tmp_path):
    plain = {"chr1": "ACGTACGTACGGGGCCCCTTAT", "chr2": "TTTTT"}
    genome = Genome(write(tmp_path, "g.fa", GENOME))
    for name, sequence in plain.items():
        for start, end in itertools.combinations(range(len(sequence) + 1), 2):
            assert genome.fetch(Interval(name, start, end)) == sequence[start:end]


def test_a_genome_with_its_index(tmp_path):
    path = write(tmp_path, "g.fa", GENOME)
    write(tmp_path, "g.fa.fai", "chr1\t22\t12\t10\t11\nchr2\t5\t43\t5\t6\n")
    indexed, scanned = Genome(path), Genome(write(tmp_path, "h.fa", GENOME))
    assert indexed.contigs == scanned.contigs


def test_genomes_that_cannot_be_read(tmp_path):
    genome = Genome(write(tmp_path, "g.fa", GENOME))
    with pytest.raises(RowFault, match=r"'1' is not in g\.fa.*set pack\.contigs"):
        genome.fetch(Interval("1", 0, 4))
    with pytest.raises(RowFault, match=r"beyond the end of chr2 \(5 bases\)"):
        genome.fetch(Interval("chr2", 0, 6))
    with pytest.raises(DataError, match="gunzip"):
        Genome(write(tmp_path, "g.fa.gz", GENOME))
    with pytest.raises(DataError, match="uneven lengths"):
        Genome(write(tmp_path, "u.fa", ">a\nACGT\nAC\nACGT\n"))
    with pytest.raises(DataError, match="holds no FASTA record"):
        Genome(write(tmp_path, "e.fa", "\n"))


# --- sequences ----------------------------------------------------------------------------------------------------------


def test_fasta_is_streamed_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CHUNK", 10)
    rows = [row for _, row in formats.read_fasta(write(tmp_path, "a.fa", ">x one\nACGTACG\nTACGTAC\nGTA\n\n>y\nTT\n"))]
    assert [(row["fasta"], row["start"], row["sequence"]) for row in rows] == [
        ("x", 0, "ACGTACGTAC"),
        ("x", 10, "GTACGTA"),
        ("y", 0, "TT"),
    ]


def test_bad_fasta_records_are_named(tmp_path, load):
    path = write(tmp_path, "a.fa", ">ok\nACGT\n>bad\nAC1GT\n>empty\n>\nAC\n>last\nGG\n")
    found = faults(load(path))
    assert len(found) == 3 and LOADER.check(load(path)).num_good == 2
    assert "line 4" in found[0] and "'empty' is empty" in found[1] and "no name" in found[2]


def test_fasta_windows_become_documents(tmp_path, load):
    path = write(tmp_path, "train.fa.gz", f">x\n{'ACGT' * 10}\n")
    documents = list(LOADER.documents(load(path, window=16, shuffle_buffer=1), "train", 0))
    assert [document.text for document in documents] == [
        ">x 1-16\nACGTACGTACGTACGT", ">x 17-32\nACGTACGTACGTACGT", ">x 33-40\nACGTACGT"]  # fmt: skip


def test_a_record_s_windows_share_a_split(tmp_path, load):
    text = "".join(f">s{n}\n{'ACGT' * 20}\n" for n in range(40))
    path = write(tmp_path, "all.fa", text)
    found = {
        split: {d.id.split(":")[1] for d in LOADER.documents(load(path, window=16), split, 0)}
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, found.values())) == 40
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]


def test_fastq(tmp_path, load):
    path = write(tmp_path, "r.fastq.gz", "@a 1\nACGT\n+\nIIII\n@b\nACG\n+\nIIII\n@c\nAC\n+\n@I\n")
    report = LOADER.check(load(path))
    assert (report.num_good, report.num_bad) == (2, 1)
    assert "3 bases and 4 qualities" in report.first_bad[0].reason
    assert "not a FASTQ record" in faults(load(write(tmp_path, "t.fq", "hello\nworld\n+\nx\n")))[0]
    assert "cut short" in faults(load(write(tmp_path, "s.fq", "@a\nAC\n+\n")))[0]


GENBANK = """LOCUS       TEST                      18 bp    DNA     linear   BCT 01-JAN-2020
DEFINITION  test.
ACCESSION   TEST
VERSION     TEST.1
KEYWORDS    .
SOURCE      {organism}
  ORGANISM  {organism}
            {lineage}.
FEATURES             Location/Qualifiers
     source          1..18
     CDS             {place}
                     /protein_id="P1"
                     /codon_start=1
                     /transl_table={code}
                     /translation="{protein}"
ORIGIN
        1 ccatgggtca ataagggg
//
"""


def genbank(folder, organism="Test organism", lineage="Bacteria", place="3..14", code=11, protein="MGQ"):
    return write(folder, "test.gb", GENBANK.format(organism=organism, lineage=lineage, place=place, code=code, protein=protein))


def test_genbank_features_become_questions(tmp_path, load):
    [sample] = LOADER.samples(load(genbank(tmp_path)), "test", 0)
    assert (sample.task, sample.reference) == ("translate", "MGQ")
    assert sample.text().endswith("ATGGGTCAATAA")
    documents = list(LOADER.documents(load(genbank(tmp_path)), "test", 0))
    assert len(documents) == 2 and documents[0].text.startswith(">TEST.1 test 1-18\nCCATGGGTCAATAAGGGG")


def test_a_translation_that_is_not_the_bases_is_a_fault(tmp_path, load):
    [fault] = faults(load(genbank(tmp_path, protein="MGK")))
    assert "'Q' at residue 3, the record says 'K'" in fault


def test_embl_is_read_too(tmp_path, load):
    from Bio import SeqIO

    path = tmp_path / "t.embl"
    SeqIO.convert(str(genbank(tmp_path)), "genbank", str(path), "embl")
    assert LOADER.check(load(path)).tallies["samples"] == 1


def test_not_genbank(tmp_path, load):
    assert "holds no genbank record" in faults(load(write(tmp_path, "x.gb", "hello\n")))[0]


# --- refused organisms --------------------------------------------------------------------------------------------------


def test_listed_organisms_are_refused_with_the_words_to_override(tmp_path, load):
    path = genbank(tmp_path, organism="Yersinia pestis", lineage="Bacteria; Yersiniaceae; Yersinia")
    with pytest.raises(DataError, match=r"is of Yersinia pestis.*pack.allow_taxa=\[Yersinia pestis\]") as refused:
        list(LOADER.samples(load(path), "test", 0))
    assert refused.value.exit_code == 3
    allowed = load(path, allow_taxa=["Yersinia pestis"], allow_taxa_reason="a parser test on public data")
    assert list(LOADER.samples(allowed, "test", 0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"allow_taxa": ["Brucella"]}, "needs a written pack.allow_taxa_reason"),
        ({"allow_taxa": ["Brucella"], "allow_taxa_reason": "yes"}, "in a sentence"),
        ({"allow_taxa": ["Brucela"], "allow_taxa_reason": "a reason in words"}, "Brucella"),
        ({"allow_taxa_reason": "a reason in words"}, "names nothing"),
    ],
)
def test_an_override_is_written_and_exact(options, reason):
    with pytest.raises(ConfigError, match=reason):
        LOADER.read(options)


def test_whole_words_only():
    taxa.refuse(["Lassaia, a moth", "Influenza A virusoid"], (), where="x")
    for text in ("[Lassa mammarenavirus]", "poxviridae", "segment of SARS-CoV-2"):
        with pytest.raises(DataError):
            taxa.refuse([text], (), where="x")


# --- intervals and variants ---------------------------------------------------------------------------------------------


def test_bed_and_gtf_say_the_same_place(tmp_path, load):
    genome = write(tmp_path, "ref.fasta.txt", GENOME)
    bed = write(tmp_path, "test.bed", "track name=x\nchr1\t4\t8\tsite\t0\t-\n")
    gtf = write(tmp_path, "test.gtf", 'chr1\tme\tsite\t5\t8\t.\t-\t.\tgene_id "g1"; note "a; b";\n')
    options = {"reference": str(genome), "shuffle_buffer": 1}
    [a], [b] = (list(LOADER.documents(load(path, **options), "test", 0)) for path in (bed, gtf))
    assert a.text == f"chr1:5-8(-) site\n{reverse_complement('ACGT')}"
    assert b.text == "chr1:5-8(-) site g1\nACGT"


def test_gff3_attributes():
    assert formats._attributes("ID=t1;Parent=g1;Note=a b") == {"ID": "t1", "Parent": "g1", "Note": "a b"}
    assert formats._attributes('gene_id "g;1"; transcript_id "t1"') == {"gene_id": "g;1", "transcript_id": "t1"}


VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def test_vcf_rows_with_a_reference(tmp_path, load):
    genome = write(tmp_path, "ref.txt", GENOME)
    rows = "1\t11\trs1\tG\tA,GT\t.\t.\tCLNSIG=Pathogenic;GENEINFO=KIT:1\n1\t12\t.\tG\t.\t.\t.\t.\n1\t13\t.\tT\tA\t.\t.\t.\n1\t14\t.\tG\t<DEL>\t.\t.\t.\n"
    path = write(tmp_path, "test.vcf", VCF + rows)
    request = load(path, reference=str(genome), contigs={"*": "chr*"}, flank=3, assembly="toy")
    samples = list(LOADER.samples(DataRequest(request.paths, options=request.options, max_bad_fraction=1.0), "test", 0))
    assert [(s.meta["reference_sequence"], s.meta["variant_sequence"]) for s in samples] == [
        ("TACGGGG", "TACAGGG"),
        ("TACGGGG", "TACGTGGG"),
    ]
    assert samples[0].reference == "pathogenic" and samples[0].meta["assembly"] == "toy" and " in KIT" in samples[0].text()
    assert samples[0].meta["coordinates"] == "0-based half-open" and samples[0].meta["start"] == 10
    assert [reason.split(":")[0] for reason in faults(request)] == ["ALT", "REF", "ALT"]
    assert "the reference has 'G' at chr1:13-13(+), the row says 'T'" in faults(request)[1]


@pytest.mark.parametrize(("said", "want"), [("5", "pathogenic"), ("5,5", "pathogenic"), ("0,2", ""), ("255", ""), ("Likely_benign", "likely benign"),
                                            ("Uncertain_significance", "uncertain"), ("Benign/Likely_benign", ""), ("", "")])  # fmt: skip
def test_clinical_significance_in_its_old_and_new_writing(said, want):
    assert shapes._significance(said) == want


def test_vcf_with_spaces_is_refused_by_its_own_words(tmp_path, load):
    [fault] = faults(load(write(tmp_path, "v.vcf", VCF.replace("\t", " "))))
    assert "columns are parted by spaces; VCF wants tabs" in fault


def test_intervals_without_a_reference_say_what_to_set(tmp_path, load):
    path = write(tmp_path, "positive.csv", "id,region,start,end,strand\n1,chr1,0,4,+\n")
    with pytest.raises(DataError, match=r"Set pack.reference=GENOME.fa"):
        list(LOADER.samples(load(path), "test", 0))


# --- sets ---------------------------------------------------------------------------------------------------------------


def test_genomic_benchmarks_take_the_class_from_the_file(tmp_path, load):
    genome = write(tmp_path, "ref.txt", GENOME)
    folder = tmp_path / "human_x" / "test"
    folder.mkdir(parents=True)
    write(folder, "positive.csv.gz", "id,region,start,end,strand\n7,chr1,10,14,-\n")
    write(folder, "negative.csv.gz", "id,region,start,end,strand\n7,chr1,0,4,+\n")
    names = {"positive": "promoter", "negative": "other"}
    samples = list(LOADER.samples(load(folder.parent, reference=str(genome), label_names=names), "test", 0))
    assert {s.reference: s.text().splitlines()[-1] for s in samples} == {"promoter": "CCCC", "other": "ACGT"}
    assert all(s.meta["labels"] == ["other", "promoter"] and "other or promoter?" in s.text() for s in samples)


def test_a_csv_of_that_name_with_other_columns_is_read_as_what_it_is(tmp_path, load):
    path = write(tmp_path, "human.csv", "sequence,label\nACGT,1\nacgu,0\nhello!,1\n")
    report = LOADER.check(load(path))
    assert (report.num_good, report.num_bad) == (2, 1) and report.tallies["shape sequence-label"] == 1


def test_gue_rows(tmp_path, load):
    path = write(tmp_path, "test.csv", "sequence,label\nACGTAC,1\nTTTTTT,0\nGGGGGG,2\n")
    request = load(path, label_names={"1": "promoter", "0": "none"}, class_question="Is there a promoter")
    samples = list(LOADER.samples(DataRequest(request.paths, options=request.options, max_bad_fraction=0.5), "test", 0))
    assert [s.reference for s in samples] == ["promoter", "none"]
    assert samples[0].text() == "Is there a promoter: none or promoter?\nACGTAC"
    assert "'2' is not among pack.label_names" in faults(request)[0]


KEGG = '{"question": "Network: KIT* -> GRB2. Which disease?", "answer": "Melanoma", "reasoning": "KIT is on.\\nSo is GRB2.", "reference_sequence": "ACGTACGT", "variant_sequence": "ACGAACGT"}\n'


def test_bioreason_rows_are_lessons_in_bioreason_s_form(tmp_path, load):
    path = write(tmp_path, "train.jsonl", KEGG)
    [lesson] = LOADER.lessons(load(path, system="bioreason"), "train", 0)
    assert lesson.response == "<think>\nKIT is on.\nSo is GRB2.\n</think>\n\nAnswer: melanoma"
    assert lesson.sample.messages[0].role == "system" and "Answer:" in lesson.sample.messages[0].content
    assert lesson.sample.text().endswith("Reference sequence: ACGTACGT\nVariant sequence: ACGAACGT")
    assert (lesson.sample.task, lesson.sample.reference) == ("variant_disease", "melanoma")
    [bare] = LOADER.lessons(load(path, sequences="none"), "train", 0)
    assert "ACGT" not in bare.sample.text() and bare.sample.meta["variant_sequence"] == "ACGAACGT"
    assert bare.response == "<think>KIT is on.\nSo is GRB2.</think><answer>melanoma</answer>"


def test_sequences_can_stand_as_dna_for_an_encoder(tmp_path, load):
    [lesson] = LOADER.lessons(load(write(tmp_path, "train.jsonl", KEGG), sequences="dna"), "train", 0)
    assert lesson.sample.text().startswith("<dna>ACGTACGT</dna> <dna>ACGAACGT</dna>\nNetwork: KIT*")


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("benign", ["benign"]),
        ("pathogenic; Hereditary_cancer", ["pathogenic; hereditary cancer"]),
        ("pathogenic; ['A_B', 'C']", ["pathogenic; a b", "pathogenic; c"]),
        ("pathogenic; ['Broken, 'C_D']", ["pathogenic; broken", "pathogenic; c d"]),
        ("Pathogenic; []", ["pathogenic"]),
    ],
)
def test_answers_are_cleaned(answer, labels):
    assert shapes.clean_answer(answer) == labels


def test_an_answer_without_a_label_is_a_fault():
    with pytest.raises(RowFault, match="holds no label"):
        shapes.clean_answer("; []")


def test_non_snv_rows_call_the_variant_mutated(tmp_path, load):
    row = '{"question": "Effect?", "answer": "benign", "reference_sequence": "ACGT", "mutated_sequence": "ACT"}\n'
    [sample] = LOADER.samples(load(write(tmp_path, "test.jsonl", row)), "test", 0)
    assert sample.meta["variant_sequence"] == "ACT"
    with pytest.raises(DataError, match="none of the 1 good rows gives lessons"):
        list(LOADER.lessons(load(tmp_path / "test.jsonl"), "test", 0))
    [lesson] = LOADER.lessons(load(tmp_path / "test.jsonl", thinking="off"), "test", 0)
    assert lesson.response == "<answer>benign</answer>"


def test_long_sequences_keep_their_middle():
    text = "A" * 1030 + "C" + "G" * 1030
    assert shapes.middle(text, 1024) == text[6:2054] and len(shapes.middle(text, 1024)) == 2048
    assert shapes.middle("A" * 2056, 1024) == "A" * 2056  # up to 2 * 1024 + 8 stays whole


def test_a_near_miss_of_a_column_is_named(tmp_path, load):
    path = write(tmp_path, "x.csv", "sequnce,label\nACGT,1\n")
    with pytest.raises(DataError, match="'sequence' \\(there is 'sequnce'\\)"):
        LOADER.check(load(path))


def test_common_shapes_are_read(tmp_path, load):
    path = write(tmp_path, "test.jsonl", '{"question": "Which base pairs with A?", "options": ["G", "T"], "answer": "B"}\n')
    [sample] = LOADER.samples(load(path), "test", 0)
    assert (sample.task, sample.reference) == ("choice", "B")
