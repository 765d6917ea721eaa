"""Strands, composition, frames, translation and restriction: hand-made cases, laws, and Biopython as the witness."""

import Bio.Restriction
import pytest
from Bio.Data import CodonTable
from Bio.Restriction import Analysis
from Bio.Seq import Seq
from Bio.SeqUtils import MeltingTemp
from hypothesis import given
from hypothesis import strategies as st

from factory.domains.biology.codes import codons, genetic_code, three_letters, translate
from factory.domains.biology.sequences import (
    ENZYMES,
    complement,
    cuts,
    enzyme,
    fragments,
    gc_count,
    gc_percent,
    orfs,
    reverse_complement,
    transcribe,
    wallace,
)
from factory.errors import ConfigError

dna = st.text("ACGT", max_size=60)
iupac = st.text("ACGTRYSWKMBDHVN", max_size=60)


@given(iupac)
def test_strands_equal_biopython(text):
    assert complement(text) == str(Seq(text).complement())
    assert reverse_complement(text) == str(Seq(text).reverse_complement())
    assert transcribe(text) == str(Seq(text).transcribe())


@given(iupac)
def test_turning_twice_gives_the_same(text):
    assert reverse_complement(reverse_complement(text)) == text


def test_rna_pairs_with_rna():
    assert complement("AUGC") == "UACG"
    assert complement("acgu") == "ugca"
    assert complement("ACG") == "TGC"  # without U or T it is DNA


@given(dna, st.integers(1, 3), st.sampled_from([1, 2, 4, 5, 11]))
def test_translation_equals_biopython_in_every_frame(text, frame, code):
    whole = text[frame - 1 :]
    whole = whole[: len(whole) // 3 * 3]
    assert translate(text, frame, code) == str(Seq(whole).translate(table=code))


@pytest.mark.parametrize("number", sorted(CodonTable.unambiguous_dna_by_id))
def test_each_table_has_sixty_four_codons(number):
    assert len(genetic_code(number)) == 64


def test_mitochondria_read_four_codons_otherwise():
    # The differences of table 2 from table 1 are AGA, AGG (stop), ATA (Met) and TGA (Trp).
    differing = {codon for codon in genetic_code(1) if genetic_code(1)[codon] != genetic_code(2)[codon]}
    assert differing == {"AGA", "AGG", "ATA", "TGA"}
    assert (translate("AGAATATGA", code=1), translate("AGAATATGA", code=2)) == ("RI*", "*MW")


def test_ambiguous_codons_are_read_when_they_decide():
    assert translate("GGNTTYTTN") == "GFX"
    assert translate("AUGUAA") == "M*"


def test_unknown_code_and_frame_say_what_is_known():
    with pytest.raises(ConfigError, match="NCBI tables: 1, 2"):
        genetic_code(7)
    with pytest.raises(ConfigError, match="want 1, 2 or 3"):
        translate("ATG", frame=0)


def test_three_letters():
    assert three_letters("GV*") == "GlyValTer"
    assert codons("AATGGGT", 2) == ["ATG", "GGT"]


def test_composition():
    assert gc_count("ACGTTGS") == 4  # C, G, G, S
    assert gc_percent("ACGTNN") == 50.0
    assert gc_percent("NNN") == 0.0


@given(st.text("ACGT", min_size=1, max_size=13))
def test_wallace_equals_biopython(text):
    assert wallace(text) == MeltingTemp.Tm_Wallace(text)


def test_wallace_by_hand():
    assert wallace("ACGTT") == 14  # 2 * 3 (A, T, T) + 4 * 2 (C, G)


def test_orf_by_hand():
    # CC ATG GGT TAA CC: bases 3 to 11.
    [found] = orfs("CCATGGGTTAACC")
    assert (found.start, found.end, found.protein, found.length) == (3, 11, "MG", 9)


def test_orf_begins_at_the_first_start_and_needs_a_stop():
    assert [orf.protein for orf in orfs("ATGATGTAA")] == ["MM"]
    assert orfs("ATGGGTGGT") == []


@given(st.text("ACGT", max_size=90))
def test_minus_strand_frames_are_those_of_the_turned_sequence(text):
    minus = [orf for orf in orfs(text, both_strands=True) if orf.strand == "-"]
    for orf in minus:
        piece = reverse_complement(text[orf.start - 1 : orf.end])
        assert piece[:3] == "ATG"
        assert translate(piece) == orf.protein + "*"
    assert len(minus) == len(orfs(reverse_complement(text)))


@pytest.mark.parametrize("name", sorted(ENZYMES))
def test_enzymes_equal_those_of_rebase(name):
    witness = getattr(Bio.Restriction, name)
    assert ENZYMES[name] == (witness.site, witness.fst5)


@given(st.text("ACGT", min_size=8, max_size=120), st.sampled_from(sorted(ENZYMES)), st.booleans())
def test_cuts_equal_biopython(text, name, circular):
    site, _ = ENZYMES[name]
    text = text[:4] + site + text[4:]
    witness = getattr(Bio.Restriction, name)
    found = Analysis(Bio.Restriction.RestrictionBatch([witness]), Seq(text), linear=not circular).full()[witness]
    # Biopython counts the base after the cut, from 1.
    assert cuts(text, name, circular=circular) == sorted((place - 1) % len(text) for place in found)


@given(st.text("ACGT", min_size=1, max_size=120), st.sampled_from(sorted(ENZYMES)), st.booleans())
def test_fragments_add_up(text, name, circular):
    assert sum(fragments(text, name, circular=circular)) == len(text)
    assert len(fragments(text, name)) == len(cuts(text, name)) + 1


def test_fragments_by_hand():
    assert fragments("AAGAATTCTTT", "EcoRI") == [3, 8]  # AAG^AATTCTTT
    assert fragments("GAATTCGAATTC", "EcoRI", circular=True) == [6, 6]
    assert fragments("TTCAAAGAA", "EcoRI", circular=True) == [9]  # GAA|TTC crosses the origin: one cut, one piece


def test_unknown_enzyme_has_a_near_miss():
    with pytest.raises(ConfigError, match="EcoRI"):
        enzyme("EcoR1")
