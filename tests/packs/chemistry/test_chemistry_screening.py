"""Dual use: the screening list, its override, the sign check; and objectives after PaccMann."""

import math

import pytest

from factory.contracts import DataRequest
from factory.domains.chemistry.molecules import read_molecule
from factory.domains.chemistry.objectives import affinity_of_ic50, combined, objectives_of, spec_of, tox21_score
from factory.domains.chemistry.screening import SHIPPED, Screen, check_directions, merged, read_screen, screening_meta
from factory.errors import ConfigError
from factory.plugins import load_pack

PACK = load_pack("chemistry")
V = PACK.verifiers()


@pytest.fixture
def site_list(tmp_path):
    """A site's own list; benzene stands in for what a site would refuse."""
    path = tmp_path / "site.yaml"
    path.write_text("keys:\n  site list: [UHOVQNZJYSORNB-UHFFFAOYSA-N]\nalerts:\n  azide: '[N-]=[N+]=N'\n")
    return path


def affinity(smiles: str) -> float:
    """A stand-in for a predictor: the share of carbon."""
    return sum(char in "Cc" for char in smiles) / len(smiles)


def ic50(smiles: str) -> float:
    """A stand-in for a predicted log10 micromolar IC50."""
    return -2.0 if "N" in smiles else 3.0


def tox21(smiles: str) -> list[float]:
    """A stand-in for twelve assays."""
    return [0.1] * 11 + [0.9 if "Cl" in smiles else 0.2]


def test_the_shipped_list_holds_hashes_and_reads():
    screen = read_screen(SHIPPED)
    assert len(screen.keys) == 21 and all(len(key) == 14 and key.isupper() for key in screen.keys)
    assert screen.hit(read_molecule("CCO")) is None and len(screen.alerts) == 4


def test_common_molecules_are_not_refused():
    from factory.domains.chemistry.draw import names

    screen = read_screen(SHIPPED)
    assert [name for name, smiles in names().items() if screen.hit(read_molecule(smiles))] == []


def test_a_site_adds_its_own_list_and_every_generating_verifier_obeys_it(site_list, sample, tagged):
    meta = screening_meta(str(site_list), "")
    cases = [
        ("molecule", sample("molecule", "c1ccccc1", **meta)), ("edit", sample("delete", {"start": "Cc1ccccc1", "remove": "methyl"}, **meta)),
        ("compose", sample("compose", {"formula": "C6H6"}, **meta)), ("ether0", sample("ether0", {"function": "product_eval", "info": "c1ccccc1"}, **meta)),
        ("property", sample("optimise", {"start": "Cc1ccccc1", "property": "logp", "direction": "down", "delta": 0.1, "similarity": 0}, **meta)),
        ("objectives", sample("design", {"recipe": "ic50", "weights": {"affinity": 0, "qed": 1, "tox": 0}, "target": 0.1}, **meta)),
    ]  # fmt: skip
    for name, one in cases:
        verdict = V[name](tagged("c1ccccc1"), one)
        assert verdict.score == 0 and "refused by the screening list (site list)" in verdict.reason, name
        assert "c1ccccc1" not in verdict.reason
    assert V["molecule"](tagged("c1ccccc1"), sample("molecule", "c1ccccc1")).score == 1
    assert V["retro"](tagged("c1ccccc1.CCO"), sample("retro", {"product": "CCOC(C)=O"}, **meta)).reason.startswith("refused")


def test_a_salt_of_a_listed_molecule_is_refused_too():
    assert Screen({"UHOVQNZJYSORNB": "listed"}).hit(read_molecule("c1ccccc1.Cl")) == "listed"


def test_an_override_needs_a_reason_and_stays_in_the_sample(sample, tagged, site_list):
    with pytest.raises(ConfigError, match="write the reason"):
        screening_meta("", "yes")
    meta = screening_meta(str(site_list), "approved by the safety board, case 12")
    assert meta["screening"]["off"] == "approved by the safety board, case 12"
    assert V["molecule"](tagged("c1ccccc1"), sample("molecule", "c1ccccc1", **meta)).score == 1


def test_a_list_that_changed_during_a_build_is_an_error_not_a_pass(site_list, sample, tagged):
    meta = screening_meta(str(site_list), "")
    site_list.write_text("keys: {}\n")
    from factory.domains.chemistry import screening

    screening._site_list.cache_clear()
    with pytest.raises(ValueError, match="has changed"):
        V["molecule"](tagged("CCO"), sample("molecule", "CCO", **meta))


def test_rows_with_listed_targets_are_set_aside_and_counted(tmp_path, site_list):
    table = tmp_path / "rxn.csv"
    table.write_text("reaction_smiles\nCC(=O)O.CCN>>CCNC(C)=O\nOc1ccccc1.[H][H]>>c1ccccc1\n")
    report = PACK.check(DataRequest(paths=(str(table),), options={"screening": str(site_list)}))
    assert (report.num_good, report.num_bad) == (1, 1)
    assert PACK.check(DataRequest(paths=(str(table),))).num_bad == 0


def test_broken_lists_and_merging(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("- a\n")
    with pytest.raises(ConfigError, match="no screening list"):
        read_screen(path)
    both = merged(Screen({"A": "one"}), Screen({"B": "two"}, {"c": "C"}))
    assert set(both.keys) == {"A", "B"} and set(both.alerts) == {"c"}


def test_no_reward_seeks_a_hazard(sample, tagged):
    with pytest.raises(ConfigError, match="is a hazard"):
        check_directions({}, seek=["alerts"])
    with pytest.raises(ConfigError, match="negative weight"):
        check_directions({"tox": -1.0})
    with pytest.raises(ConfigError, match="hazard"):
        V["property"](tagged("CCO"), sample("optimise", {"start": "CCN", "property": "alerts", "direction": "up"}))
    with pytest.raises(ConfigError, match="negative"):
        V["objectives"](tagged("CCO"), sample("design", {"weights": {"affinity": 0, "tox": -0.5}}))
    check_directions({"tox": 1.0}, seek=["logp"])


def test_paccmann_formulas():
    """P = 1 / (1 + exp(x)); x is taken as 10 from the threshold 2 on."""
    assert affinity_of_ic50(0.0) == 0.5
    assert affinity_of_ic50(-2.0) == pytest.approx(1 / (1 + math.exp(-2)))
    assert affinity_of_ic50(2.0) == affinity_of_ic50(5.0) == pytest.approx(1 / (1 + math.exp(10)))
    assert tox21_score([0.5] * 12) == 1.0 and tox21_score([0.51] + [0.0] * 11) == 0.0
    assert tox21_score([0.6, 0.2], raw=True) == pytest.approx(0.6)


def test_objectives_are_normalised_then_summed(sample, tagged):
    here = f"{__name__}:"
    reference = {"recipe": "protein", "oracles": {"affinity": f"{here}affinity", "tox21": f"{here}tox21"}}
    recipe, weights, oracles, _ = spec_of(reference)
    values = objectives_of(read_molecule("CCCO"), recipe, weights, oracles)
    assert values == {"affinity": 0.75, "tox": 1.0}
    # protein version: 1 * 0.75 + 0.5 * 1 = 1.25, over 1.5
    assert combined(values, weights) == (pytest.approx(1.25 / 1.5), pytest.approx(1.25))
    assert objectives_of(read_molecule("CCCCl"), recipe, weights, oracles)["tox"] == 0.0
    verdict = V["objectives"](tagged("CCCO"), sample("design", reference))
    assert verdict.score == pytest.approx(1.25 / 1.5) and verdict.parts["published"] == pytest.approx(1.25)
    ic50_reference = {"recipe": "ic50", "oracles": {"affinity": f"{here}ic50"}, "weights": {"tox": 0.0}}
    assert V["objectives"](tagged("CCN"), sample("design", ic50_reference)).score == pytest.approx(affinity_of_ic50(-2.0))
    assert V["objectives"](tagged("CCO"), sample("design", ic50_reference)).score == pytest.approx(affinity_of_ic50(10.0))


@pytest.mark.parametrize(
    "reference",
    [None, {"recipe": "other"}, {"weights": {"affinity": 1}}, {"weights": {"affinity": 0, "beauty": 1}}, {"weights": {"affinity": 0}, "target": 2},
     {"weights": {"affinity": 0, "tox": 0, "qed": 0, "synthesis": 0}}],
)  # fmt: skip
def test_faulty_designs_are_errors_of_the_sample(reference):
    with pytest.raises(ValueError, match=r"."):
        spec_of(reference)
