"""HGVS descriptions: what is equal, what is not, and the two readers against each other on real strings."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.domains.biology import hgvs


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ("c.76del", "c.76delA"),
        ("NM_004006.2:c.76_78dupAGC", "c.76_78dup"),
        ("c.5_5del", "c.5del"),
        ("p.Gly2Val", "p.(Gly2Val)"),
        ("p.G2V", "p.(Gly2Val)"),
        ("p.(Gln3*)", "p.(Gln3Ter)"),
        ("p.Q3X", "p.(Gln3Ter)"),
        ("p.(Gly8ValfsTer23)", "p.(Gly8fs)"),
        ("p.(Gly8Valfs*23)", "p.(Gly8ValfsTer23)"),
        ("p.(Gly2Gly)", "p.(Gly2=)"),
        ("p.(*110Glnext*17)", "p.(Ter110GlnextTer17)"),
        ("p.(Lys2_Leu3insGlnSer)", "p.K2_L3insQS"),
        ("  c.88+1G>T ", "c.88+1G>T"),
    ],
)
def test_equal_after_normalisation(got, want):
    assert hgvs.equal(got, want) == (True, "")
    assert hgvs.equal(want, got) == (True, "")


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ("c.76delC", "c.76delA"),
        ("g.76del", "c.76del"),
        ("NM_004006.3:c.76del", "NM_004006.2:c.76del"),
        ("p.(Gly8ValfsTer23)", "p.(Gly8AlafsTer23)"),
        ("p.(Gly8fsTer22)", "p.(Gly8fsTer23)"),
        ("c.88-1G>T", "c.88+1G>T"),
        ("c.-88G>T", "c.88G>T"),
        ("c.*88G>T", "c.88G>T"),
        ("c.4_6del", "c.4_6dup"),
        ("p.(Gly2Val)", "p.(Gly2Ala)"),
    ],
)
def test_different_changes_are_told_apart(got, want):
    assert hgvs.equal(got, want)[0] is False


@pytest.mark.parametrize("text", ["", "c.", "c.5G>T the answer", "5G>T", "c.5G>G", "c.5_6G>T", "c.5insA", "p.(Gly2Val) or p.(Gly2Ala)",
                                  "p.(Foo2Val)", "p.Gly2_Gln3=", "c.٥G>T", "c.5g>t", "c.[5G>T;6T>C]"])  # fmt: skip
def test_other_texts_are_no_plain_description(text):
    assert hgvs.read_plain(text) is None


@given(st.text(max_size=60))
def test_no_text_raises(text):
    hgvs.read_plain(text)
    assert hgvs.equal(text, "c.5G>T")[0] in (True, False)
    assert hgvs.equal(text, "c.[5G>T;6T>C]")[0] in (True, False)


def test_other_descriptions_go_to_mutalyzer():
    pytest.importorskip("mutalyzer_hgvs_parser")
    assert hgvs.equal("NM_1.1:c.[5G>T;7del]", "NM_1.1:c.[5G>T;7delC]") == (True, "")
    assert hgvs.equal("NM_1.2:c.[5G>T;7del]", "NM_1.1:c.[5G>T;7del]")[0] is False
    assert hgvs.equal("c.[5G>T;8del]", "c.[5G>T;7del]")[0] is False
    same, fault = hgvs.equal("five G to T", "c.[5G>T;7del]")
    assert not same and fault.startswith("not an HGVS description")
    with pytest.raises(ValueError, match="not an HGVS description"):
        hgvs.equal("c.5G>T", "not a name")


def clinvar(real):
    with gzip.open(real / "hgvs" / "clinvar.tsv.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith(("#", "gene\t")):
                yield from line.rstrip("\n").split("\t")[2].split()


def test_the_plain_reader_takes_nearly_all_of_clinvar(real):
    names = list(clinvar(real))
    assert len(names) == 25_815
    assert sum(":c." in name for name in names) == COUNT_C
    others = [name for name in names if hgvs.read_plain(name) is None]
    assert len(others) == 1110
    # What is left: a stated base before `=`, `delAGinsCT` (two forms that HGVS no longer writes), sizes (`del2976`) and repeats.
    assert sum(name.endswith("=") for name in others) + sum("ins" in name for name in others) > 1000


COUNT_C = 10_967


@pytest.mark.slow
def test_both_readers_agree_on_clinvar(real):
    pytest.importorskip("mutalyzer_hgvs_parser")
    names = sorted(set(clinvar(real)))[::5]
    forms: dict[str, set[str]] = {}
    for name in names:
        plain = hgvs.read_plain(name)
        if plain is not None:
            forms.setdefault(f"{plain.reference}:{plain.kind}.{plain.name}", set()).add(
                f"{plain.reference}|{hgvs.parse_any(name)}"
            )
    assert len(forms) > 4000
    assert all(len(models) == 1 for models in forms.values())
    models = [next(iter(found)) for found in forms.values()]
    assert len(set(models)) == len(models)


def test_grammar_file_strings_of_full_variants(real):
    """biocommons' own cases of c_variant and p_variant: what it calls invalid is not read as plain."""
    wrong = 0
    for line in (real / "hgvs" / "grammar_test.tsv").read_text(encoding="utf-8").splitlines():
        cells = line.split("\t")
        if len(cells) > 2 and cells[0] in ("c_variant", "g_variant", "p_variant") and cells[2] == "False":
            wrong += sum(hgvs.read_plain(text) is not None for text in cells[1].split("|"))
    assert wrong == 0


def test_without_the_parser_plain_names_still_work(monkeypatch):
    import sys

    from factory.errors import PluginError

    hgvs.parse_any.cache_clear()
    monkeypatch.setitem(sys.modules, "mutalyzer_hgvs_parser", None)
    assert hgvs.equal("c.5G>T", "c.5G>T") == (True, "")
    with pytest.raises(PluginError, match=r"domain-factory\[biology\]"):
        hgvs.equal("c.5G>T", "c.[5G>T;7del]")
