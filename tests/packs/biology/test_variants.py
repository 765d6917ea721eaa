"""Effects and HGVS names: the guide's vectors, HGVS's own rules, and laws."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from factory.domains.biology import hgvs
from factory.domains.biology.variants import EFFECTS, Change, apply, difference, effect, name_c, name_p

CDS = "ATGGGTCAATAA"  # ATG GGT CAA TAA: Met Gly Gln stop


@pytest.mark.parametrize(
    ("variant", "c", "p", "what"),
    [
        ("ATGGTTCAATAA", "c.5G>T", "p.(Gly2Val)", "missense"),
        ("ATGGGCCAATAA", "c.6T>C", "p.(Gly2=)", "synonymous"),
        ("ATGGGTTAATAA", "c.7C>T", "p.(Gln3Ter)", "nonsense"),
        ("GTGGGTCAATAA", "c.1A>G", "p.(Met1?)", "start lost"),
        ("ATGGGTCAACAA", "c.10T>C", "p.(Ter4GlnextTer?)", "stop lost"),
        # Deleting any of the three G's gives the same sequence; HGVS names the last.
        ("ATGGTCAATAA", "c.5del", "p.(Gly2fs)", "frameshift"),
    ],
)
def test_the_guide_s_vectors(variant, c, p, what):
    assert (name_c(CDS, variant), name_p(CDS, variant), effect(CDS, variant)) == (c, p, what)


@pytest.mark.parametrize(
    ("variant", "c", "p", "what"),
    [
        ("TTGGGTCAATAA", "c.1A>T", "p.(Met1?)", "start lost"),  # TTG may start in table 1, but HGVS calls it lost
        ("ATGCAATAA", "c.4_6del", "p.(Gly2del)", "in-frame"),
        ("ATGGGTGGTCAATAA", "c.4_6dup", "p.(Gly2dup)", "in-frame"),
        ("ATGGGTGTTCAATAA", "c.6_7insGTT", "p.(Gly2_Gln3insVal)", "in-frame"),
        ("ATGGAACAATAA", "c.5_6delinsAA", "p.(Gly2Glu)", "missense"),
        ("ATGTAACAATAA", "c.4_6delinsTAA", "p.(Gly2Ter)", "nonsense"),
        ("ATGGGTTTGTAA", "c.7_9inv", "p.(Gln3Leu)", "missense"),  # CAA turned is TTG
        ("ATGGGTTAACAATAA", "c.6_7insTAA", "p.(Gln3Ter)", "nonsense"),
        ("ATGGAAGTCAATAA", "c.4_5insAA", "p.(Gly2fs)", "frameshift"),
        ("ATGGGTCAATGA", "c.11A>G", "p.(Ter4=)", "synonymous"),
        ("ATGTAGGTCAATAA", "c.3_4insTA", "p.(Gly2Ter)", "frameshift"),  # stops at once: HGVS names the stop
    ],
)
def test_names_by_hgvs_rules(variant, c, p, what):
    assert (name_c(CDS, variant), name_p(CDS, variant), effect(CDS, variant)) == (c, p, what)


SPLIT = "ATGGGTgtaagtacagCAATAA"  # one intron between codon 2 and 3


@pytest.mark.parametrize(
    ("variant", "c", "what"),
    [
        ("ATGGGTataagtacagCAATAA", "c.6+1G>A", "splice site"),
        ("ATGGGTgaaagtacagCAATAA", "c.6+2T>A", "splice site"),
        ("ATGGGTgtaagtacacCAATAA", "c.7-1G>C", "splice site"),
        ("ATGGGTgtcagtacagCAATAA", "c.6+3A>C", "synonymous"),
        ("ATGGGTgtaagtacagTAATAA", "c.7C>T", "nonsense"),
    ],
)
def test_introns_are_lower_case(variant, c, what):
    assert (name_c(SPLIT, variant), effect(SPLIT, variant)) == (c, what)


def test_equal_sequences_have_no_effect():
    assert name_c(CDS, CDS) == "c.="
    with pytest.raises(ValueError, match="equal"):
        effect(CDS, CDS)


def test_apply_checks_what_it_removes():
    with pytest.raises(ValueError, match="not 'C'"):
        apply(CDS, Change(4, "C", "T"))


sequences = st.text("ACGT", min_size=1, max_size=30)


@given(sequences, sequences)
def test_applying_the_difference_gives_the_variant(reference, variant):
    change = difference(reference, variant)
    assert (reference if change is None else apply(reference, change)) == variant


@given(sequences, st.integers(0, 29), st.integers(1, 5))
def test_deletions_are_as_far_to_the_end_as_they_can_be(reference, at, size):
    assume(at + size <= len(reference))
    variant = reference[:at] + reference[at + size :]
    change = difference(reference, variant)
    assert change.inserted == "" and len(change.removed) == size
    later = Change(change.start + 1, reference[change.start : change.end + 1], "")
    assert change.end == len(reference) or apply(reference, later) != variant


@given(st.lists(st.sampled_from(["GGT", "CAA", "AAA", "TTC", "CTG"]), min_size=2, max_size=6), st.integers(0, 30), st.sampled_from("ACGT"),
       st.sampled_from(["substitute", "delete", "insert"]))  # fmt: skip
def test_names_are_read_by_our_reader_and_by_mutalyzer(inner, at, base, deed):
    reference = "ATG" + "".join(inner) + "TAA"
    at = at % len(reference)
    variant = {
        "substitute": reference[:at] + base + reference[at + 1 :], "delete": reference[:at] + reference[at + 1 :],
        "insert": reference[:at] + base + reference[at:],
    }[deed]  # fmt: skip
    assume(variant != reference)
    assert effect(reference, variant) in EFFECTS
    for name in (name_c(reference, variant), name_p(reference, variant)):
        assert hgvs.read_plain(name) is not None
        hgvs.parse_any(name)
