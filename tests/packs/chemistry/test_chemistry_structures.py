"""Reading molecules, equality, formulas, equations and properties: guards and golden values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.domains.chemistry.equality import LEVELS, is_same
from factory.domains.chemistry.equations import EquationFault, balance, read_equation
from factory.domains.chemistry.formulas import FormulaFault, formula_of, hill, is_same_formula, read_formula
from factory.domains.chemistry.molecules import Fault, MoleculeFault, canonical_smiles, is_molecule, read_molecule, tanimoto
from factory.domains.chemistry.properties import count_of, property_of, scaffold
from factory.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", Fault.empty), ("   ", Fault.empty), ("``", Fault.empty), ("CCO the answer", Fault.prose), ("CCO\nCCN", Fault.prose),
        ("C C", Fault.prose), ("CCО", Fault.alphabet), ("C\u202eO", Fault.alphabet), ("C\x00O", Fault.alphabet), ("*CC", Fault.wildcard),
        ("C1CC", Fault.invalid), ("c1cccc1", Fault.invalid), ("C(", Fault.invalid), ("ethanol", Fault.alphabet), ("C" * 1001, Fault.too_long),
        ("C" * 900, Fault.too_large), ("C" * 50_000, Fault.too_long), ("C" + "(C" * 100 + ")" * 100, Fault.too_deep),
        ("[C+99999999]", Fault.too_deep), ("[" * 40, Fault.too_deep),
    ],
)  # fmt: skip
def test_what_is_no_molecule_is_refused_before_or_by_rdkit_with_its_reason(text, fault, capfd):
    with pytest.raises(MoleculeFault) as raised:
        read_molecule(text)
    assert raised.value.fault is fault or (text == "ethanol" and raised.value.fault is Fault.invalid)
    assert capfd.readouterr() == ("", "")


def test_rdkit_alone_reads_prose_and_nothing_as_molecules():
    """Why the guards exist."""
    from rdkit import Chem

    assert Chem.MolFromSmiles("CCO the answer").GetNumAtoms() == 3
    assert Chem.MolFromSmiles("").GetNumAtoms() == 0


@pytest.mark.parametrize("text", ["[START_SMILES]CCO[END_SMILES]", "<SMILES> OCC </SMILES>", "`CCO`", " CCO\n"])
def test_marks_around_a_smiles_are_taken_off(text):
    assert canonical_smiles(text) == "CCO"


def test_atom_maps_do_not_count_and_wildcards_only_where_allowed():
    assert canonical_smiles("[CH3:1][CH2:2][OH:3]") == "CCO"
    assert canonical_smiles("[C:1]([H:2])([H:3])([H:4])[H:5]") == "C"
    assert read_molecule("*CC", allow_wildcard=True).GetNumAtoms() == 3


@given(st.text(alphabet="CNOSPFclnos()[]=#123+-@/\\%.*Brl ", max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_molecule_or_a_fault(text):
    try:
        written = canonical_smiles(text)
    except MoleculeFault:
        return
    assert canonical_smiles(written) == written and is_molecule(written)


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("Oc1ccccn1", "O=c1cccc[nH]1", {"tautomer", "inchikey_block1"}),  # 2-hydroxypyridine and 2-pyridone
        ("CC(=O)O", "CC(=O)[O-].[Na+]", {"parent"}),
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", {"no_stereo", "tautomer", "inchikey_block1"}),
        ("OCC", "CCO", set(LEVELS)),
        ("CCO", "CCN", set()),
        ("[2H]C", "C", {"no_stereo", "inchikey_block1"}),  # RDKit's non-isomeric SMILES leaves isotopes out too
    ],
)
def test_levels_of_equality_disagree_as_stated(a, b, equal):
    assert {level for level in LEVELS if is_same(a, b, level)} == equal


@pytest.mark.parametrize(
    ("text", "atoms", "charge"),
    [
        ("C9H8O4", {"C": 9, "H": 8, "O": 4}, 0), ("H8C9O4", {"C": 9, "H": 8, "O": 4}, 0), ("C₂H₆O", {"C": 2, "H": 6, "O": 1}, 0),
        ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}, 0), ("CuSO4·5H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}, 0), ("NH4+", {"N": 1, "H": 4}, 1),
        ("SO4^2-", {"S": 1, "O": 4}, -2), ("C_{2}H_{6}", {"C": 2, "H": 6}, 0), ("Fe2(SO4)3", {"Fe": 2, "S": 3, "O": 12}, 0),
    ],
)  # fmt: skip
def test_formulas(text, atoms, charge):
    assert read_formula(text) == (atoms, charge)


@pytest.mark.parametrize(
    "text",
    ["", "Xx2", "C2H6O and", "c2h6", "C0H4", "C2H6)", "(C2", "2C", "C" * 200, "С2Н6", "C2 H6", "+", "((((((((((C))))))))))"],
)
def test_no_formulas(text):
    with pytest.raises(FormulaFault):
        read_formula(text)


@given(st.dictionaries(st.sampled_from(["C", "H", "N", "O", "Cl", "Br", "S", "Na"]), st.integers(1, 99), min_size=1))
def test_hill_order_is_read_back(atoms):
    assert read_formula(hill(atoms)) == (atoms, 0)
    assert is_same_formula(hill(atoms), "".join(f"{element}{number}" for element, number in reversed(atoms.items())))


def test_golden_values_of_the_guide():
    expected = {
        "CCO": (46.069, -0.0014, 20.23, -0.042), "OCCO": (None, -1.029, None, 0.617), "c1ccccc1": (None, 1.6866, None, -1.933),
        "CC(=O)Oc1ccccc1C(=O)O": (None, None, None, -2.092), "Cn1cnc2c1c(=O)n(C)c(=O)n2C": (None, -1.0293, None, -0.534),
    }  # fmt: skip
    for smiles, values in expected.items():
        mol = read_molecule(smiles)
        for name, value in zip(("mw", "logp", "tpsa", "esol"), values, strict=True):
            if value is not None:
                assert property_of(mol, name) == pytest.approx(value, abs=6e-4), (smiles, name)
    assert property_of(read_molecule("CC(=O)Oc1ccccc1C(=O)O"), "qed") == pytest.approx(0.550, abs=5e-4)
    assert hill(*formula_of(read_molecule("CC(=O)Oc1ccccc1C(=O)O"))) == "C9H8O4"
    assert hill(*formula_of(read_molecule("Cn1cnc2c1c(=O)n(C)c(=O)n2C"))) == "C8H10N4O2"
    assert 1.0 <= property_of(read_molecule("c1ccccc1"), "sa") < 2.0  # Ertl's score of benzene is 1


def test_counts_scaffold_and_likeness():
    mol = read_molecule("C[C@H](N)Cc1ccc(O)cc1")
    assert [
        count_of(mol, name) for name in ("rings", "donors", "rotors", "stereocentres", "heavy atoms", "N", "double bonds")
    ] == [1, 2, 2, 1, 11, 1, 3]
    assert scaffold(mol) == "c1ccccc1" and scaffold(read_molecule("CCO")) == ""
    assert tanimoto(mol, mol) == 1.0
    with pytest.raises(ConfigError, match="donors"):
        count_of(mol, "doners")
    with pytest.raises(ConfigError, match="logp"):
        property_of(mol, "logpp")


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        (["H2", "O2"], ["H2O"], "2 H2 + O2 -> 2 H2O"),
        (["C3H8", "O2"], ["CO2", "H2O"], "C3H8 + 5 O2 -> 3 CO2 + 4 H2O"),
        (["KMnO4", "HCl"], ["KCl", "MnCl2", "H2O", "Cl2"], "2 KMnO4 + 16 HCl -> 2 KCl + 2 MnCl2 + 8 H2O + 5 Cl2"),
        (["Fe^3+", "I-"], ["Fe^2+", "I2"], "2 Fe^3+ + 2 I- -> 2 Fe^2+ + I2"),
    ],
)
def test_balance(left, right, text):
    found = balance(left, right)
    assert str(found) == text and not found.imbalance()
    assert read_equation(text).coefficient_map() == found.coefficient_map()


def test_what_cannot_be_balanced_says_why():
    for left, right, why in (
        (["H2"], ["O2"], "no balance"),
        (["C", "O2"], ["CO", "CO2"], "more than one"),
        (["CO2"], ["CO", "C"], None),
    ):
        if why is None:  # 2 CO2 cannot give CO and C without oxygen elsewhere
            with pytest.raises(EquationFault):
                balance(left, right)
            continue
        with pytest.raises(EquationFault, match=why):
            balance(left, right)


@pytest.mark.parametrize(
    "text", ["H2 + O2", "H2 -> ", "2 -> H2", "H2 + H2 -> H4", "a -> b -> c", "0 H2 -> H2", "H2 + O2 -> H2O " * 40]
)
def test_no_equations(text):
    with pytest.raises(EquationFault):
        read_equation(text)
