"""Groups, edits, templates both ways, routes and crystals."""

import pytest

from factory.domains.chemistry.crystals import CifFault, read_cif
from factory.domains.chemistry.groups import GROUPS, count_group, group_named, groups_of, with_exchange, with_group, without_group
from factory.domains.chemistry.molecules import canonical_smiles, read_molecule
from factory.domains.chemistry.reactions import TEMPLATES, explain, precursors_of, products_of, split_reaction
from factory.domains.chemistry.routes import check_route, read_route
from factory.errors import ConfigError


@pytest.mark.parametrize(
    ("smiles", "counts"),
    [
        ("OCC(O)CO", {"hydroxyl": 3, "carboxyl": 0}), ("CC(=O)O", {"carboxyl": 1, "hydroxyl": 0, "ketone": 0, "ester": 0}),
        ("CCOC(C)=O", {"ester": 1, "ether": 0, "carboxyl": 0}), ("CC(=O)NC", {"amide": 1, "amine": 0}), ("NCCN", {"amine": 2}),
        ("ClC(Cl)Br", {"halo": 3, "chloro": 2, "bromo": 1}), ("N#CCC#N", {"nitrile": 2}), ("C[N+](=O)[O-]", {"nitro": 1}),
        ("CSSC", {"disulfide": 1}), ("CS(C)=O", {"sulfoxide": 1}), ("CS(C)(=O)=O", {"sulfone": 1}), ("CC=O", {"aldehyde": 1, "ketone": 0}),
        ("CC(C)=O", {"ketone": 1, "aldehyde": 0}), ("c1ccc2ccccc2c1", {"benzene_ring": 2}), ("CC(=O)OC(C)=O", {"anhydride": 1}), ("CCS", {"thiol": 1}),
    ],
)  # fmt: skip
def test_groups_are_counted(smiles, counts):
    mol = read_molecule(smiles)
    assert {name: count_group(mol, name) for name in counts} == counts
    assert {name for name, number in counts.items() if number} <= groups_of(mol)


def test_group_names_and_aliases():
    assert group_named("Carboxylic acid").name == "carboxyl" and group_named("benzene ring").name == "benzene_ring"
    with pytest.raises(KeyError, match="hydroxyl"):
        group_named("unobtainium")


def test_edits_are_enumerated():
    assert with_group("CCO", "chloro") == {"OCCCl", "CC(O)Cl"}
    assert without_group("CC(O)CN", "hydroxyl") == {"CCCN"}
    assert with_exchange("CC(O)CN", "hydroxyl", "chloro") == {"CC(Cl)CN"}
    for name, group in GROUPS.items():
        if group.fragment and group.cut:
            made = with_group("c1ccccc1" if name != "benzene_ring" else "C1CCCCC1", name)
            assert made and all(count_group(read_molecule(one), name) >= 1 for one in made), name


CASES = {
    "amide": (("CC(=O)O", "CCN"), "CCNC(C)=O"), "ester": (("CC(=O)O", "CCO"), "CCOC(C)=O"), "ether": (("CBr", "OCC"), "CCOC"),
    "thioether": (("CBr", "SCC"), "CCSC"), "alkylation": (("CCBr", "CCN"), "CCNCC"), "suzuki": (("Brc1ccccc1", "OB(O)c1ccncc1"), "c1ccc(-c2ccncc2)cc1"),
    "reductive_amination": (("O=Cc1ccccc1", "CCN"), "CCNCc1ccccc1"), "boc_removal": (("CCNC(=O)OC(C)(C)C",), "CCN"),
    "hydrolysis": (("COC(C)=O",), "CC(=O)O"), "nitro_reduction": (("O=[N+]([O-])c1ccccc1",), "Nc1ccccc1"), "oxidation": (("CC(C)O",), "CC(C)=O"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_runs_both_ways(name):
    reactants, product = CASES[name]
    assert canonical_smiles(product) in products_of(reactants, name)
    assert products_of(tuple(reversed(reactants)), name) == products_of(reactants, name)
    assert tuple(sorted(map(canonical_smiles, reactants))) in precursors_of(product, name)
    for found in precursors_of(product, name):
        assert canonical_smiles(product) in products_of(found, name)
    assert explain(reactants, product, [name]) == name


def test_what_no_template_explains():
    assert explain(["CCO"], "c1ccccc1") is None and explain(["C"] * 5, "CC") is None
    assert products_of(("CC(=O)O", "CC(=O)N"), "amide") == frozenset()  # an amide is no amine here
    with pytest.raises(ConfigError, match="amide"):
        products_of(("C", "C"), "amid")


def test_reaction_smiles():
    found = split_reaction("CC(=O)O.CCN>CN(C)C=O>CCNC(C)=O")
    assert found.reactants == ("CC(=O)O", "CCN") and found.reagents == ("CN(C)C=O",) and found.products == ("CCNC(C)=O",)
    for text in ("CCO", "A>B", "a>b>c>d", ""):
        with pytest.raises(ValueError, match="no reaction SMILES"):
            split_reaction(text)


GOOD = "CCC(=O)OC>>CCC(=O)O\nCCC(=O)O.NCC1CC1>>CCC(=O)NCC1CC1"
TARGET, STOCK = "CCC(=O)NCC1CC1", ("CCC(=O)OC", "NCC1CC1")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, ""), ("\n".join(reversed(GOOD.splitlines())), ""), ("1. " + GOOD.replace("\n", "\n2. "), ""),
        ("CCC(=O)O.NCC1CC1>>CCC(=O)NCC1CC1", "not in stock"), ("CCC(=O)OC>>CCC(=O)O", "target is not made"),
        ("CCC(=O)OC.NCC1CC1>>CCC(=O)NCC1CC1", "no template"), (GOOD + "\nCC(=O)OC>>CC(=O)O", "not used"),
        (GOOD.replace("CCC(=O)O.NCC1CC1", "CCC(=O)NCC1CC1.CCC(=O)O.NCC1CC1"), "product is a reactant"),
        ("CCC(=O)OC>>CCC(=O)O\n" + GOOD, "made twice"),
    ],
)  # fmt: skip
def test_routes_are_checked_step_by_step(text, fault):
    report = check_route(text, TARGET, STOCK)
    assert (report.fault == "") == (fault == "") and fault in report.fault


def test_routes_without_stock_must_start_smaller_and_go_in_no_circle():
    assert check_route(GOOD, TARGET).fault == ""
    assert "nearly the target" in check_route("CCC(=O)OC>>CCC(=O)O", "CCC(=O)O").fault
    circle = "CC(C)O>>CC(C)=O\nCC(C)=O.CN>>CNC(C)C"
    assert check_route(circle, "CNC(C)C").fault != ""
    for text in ("", "hydrolyse it", "CC>>C.C", "\n".join(["CCO>>CC=O"] * 20)):
        with pytest.raises(ValueError, match=r"."):
            read_route(text)


CIF = """data_NaCl
_symmetry_space_group_name_H-M   'F m -3 m'
_cell_length_a   5.692(1)
_cell_length_b   5.692
_cell_length_c   5.692
_cell_angle_alpha   90.0
_cell_angle_beta   90.0
_cell_angle_gamma   90.0
loop_
 _symmetry_equiv_pos_as_xyz
  'x, y, z'
loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
  Na  Na1  0.0  0.0  0.0
  Cl  Cl1  0.5  0.5  0.5
_chemical_formula_sum   'Na1 Cl1'
"""


def test_cif_is_read_to_its_cell_and_content():
    crystal = read_cif(CIF)
    assert crystal.formula == "ClNa" and crystal.space_group == "F m -3 m" and crystal.lengths == (5.692,) * 3
    assert crystal.volume == pytest.approx(5.692**3) and crystal.sites[1] == ("Cl", 0.5, 0.5, 0.5)
    assert read_cif(CIF.replace("_chemical_formula_sum   'Na1 Cl1'\n", "")).formula == "ClNa"
    for broken in (
        "",
        CIF.replace("_cell_length_b", "_x"),
        CIF.replace("90.0", "square", 1),
        CIF.replace("  Na  Na1  0.0", "  Na  Na1"),
    ):
        with pytest.raises(CifFault):
            read_cif(broken)
