"""The published behaviours of ether0 as golden rows, for the mended and the original variant by name."""

import pytest

from factory.domains.chemistry import ether0
from factory.domains.chemistry.ether0 import Setting, Why, run
from factory.domains.chemistry.molecules import read_molecule
from factory.domains.chemistry.properties import esol
from factory.domains.chemistry.reasonable import Seen, build, fault, reos_hits

BOTH = (Setting(), Setting(original=True))
GOLDEN = [
    # function, answer, info, score, why
    ("str_eval", " Propan 2-ol ", "propan-2-ol", 1, Why.valid), ("str_eval", "x^{2}y", "X^(2)y", 1, Why.valid),
    ("str_eval", "(butane)", "butane", 1, Why.valid), ("str_eval", "$butane$", "butane", 1, Why.valid), ("str_eval", "", "butane", 0, Why.wrong),
    ("str_eval", "propan2ol", "propan-2-ol", 0, Why.wrong), ("rxn_eval", "propan2ol", "propan-2-ol", 1, Why.valid),
    ("rxn_eval", "propan\u20112\u2212ol", "propan-2-ol", 1, Why.valid), ("rxn_eval", "propan-1-ol", "propan-2-ol", 0, Why.wrong),
    ("product_eval", "O=C(C)Nc1ccccc1.Cl", "CC(=O)Nc1ccccc1", 1, Why.valid), ("product_eval", "CC(=O)Nc1ccccn1", "CC(=O)Nc1ccccc1", 0, Why.wrong),
    ("product_eval", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", 0, Why.wrong), ("caption_eval", "CC(O)=O", "CC(=O)O", 1, Why.valid),
    ("formula_eval", "OCCCC", "CCCCO", 1, Why.valid), ("formula_eval", "CC(C)(C)O", "CCCCO", 0, Why.not_similar),
    ("formula_eval", "CCCO", "CCCCO", 0, Why.wrong_formula), ("formula_eval", "C1CC", "CCCCO", 0, Why.invalid_molecule),
    ("functional_group_eval", "CCO", ("C2H6O", ["Hydroxyl"]), 1, Why.valid), ("functional_group_eval", "COC", ("C2H6O", ["hydroxyl"]), 0, Why.wrong_groups),
    ("functional_group_eval", "CCO", '["C2H6O", ["alcohol"]]', 1, Why.valid), ("functional_group_eval", "CCCO", ("C2H6O", []), 0, Why.wrong_formula),
    ("valid_mol_eval", ")O", "CC(C", 1, Why.valid), ("valid_mol_eval", "CC(C)O", "CC(C", 1, Why.valid),
    ("rxn_forward", "CC(=O)O.CCN>>CCNC(C)=O", "CCNC(C)=O", 1, Why.valid), ("rxn_forward", "CC(=O)O.CCN>CN(C)C=O>", "CCNC(C)=O", 1, Why.valid),
    ("rxn_forward", "CC(=O)O.CCN>>CCO", "CCNC(C)=O", 0, Why.wrong_product), ("rxn_forward", "CCNC(C)=O.O>>", "CCNC(C)=O", 0, Why.bad_reaction),
    ("rxn_forward", "CC(=O)O.CCN>CCNC(C)=O>", "CCNC(C)=O", 0, Why.bad_reaction), ("rxn_forward", "CCN>>CCNC(C)=O", "CCNC(C)=O", 0, Why.bad_reaction),
    ("rxn_forward", "A.B>C>D>E", "CCNC(C)=O", 0, Why.bad_reaction), ("should_answer", "CCO", "", 1, Why.valid),
    ("should_answer", "refused", "", 0, Why.invalid_molecule), ("should_not_answer", "No.", "No.", 1, Why.valid),
    ("should_not_answer", "CCO", "No.", 0, Why.wrong),
]  # fmt: skip


@pytest.mark.parametrize(("function", "answer", "info", "score", "why"), GOLDEN)
@pytest.mark.parametrize("setting", BOTH, ids=("mended", "original"))
def test_golden_rows(function, answer, info, score, why, setting):
    assert run(function, answer, info, setting) == (score, why)


@pytest.mark.parametrize(
    ("function", "answer", "info", "mended", "original"),
    [
        ("product_eval", "OCC", "CCO", 1, 0),  # fragments of up to three letters are ignored by the original
        ("product_eval", "CO", "CO", 1, 0),
        ("product_eval", "O", "O", 1, 0),
        ("should_answer", "CCO the answer", "", 0, 1),  # RDKit takes the prose for a name
        ("caption_eval", "CC(=O)O is it", "CC(=O)O", 0, 1),
        ("product_eval", "CCCCO*", "CCCCO", 0, 0),
        ("should_answer", "I refuse", "", 0, 1),  # iodine, named "refuse"
        ("valid_mol_eval", "", "CCO", 0, 1),  # the given start alone completes nothing
    ],
)
def test_named_faults_are_mended_and_the_original_is_kept(function, answer, info, mended, original):
    assert run(function, answer, info, Setting())[0] == mended
    assert run(function, answer, info, Setting(original=True))[0] == original


def test_solubility_keeps_its_constraint_and_misses_by_at_most_049():
    value = esol(read_molecule("Cc1ccccc1"))
    for offset, score in ((0.0, 1), (0.489, 1), (-0.489, 1), (0.5, 0), (-0.5, 0)):
        assert run("sol_eval", "Cc1ccccc1", ["scaffold", "c1ccccc1", value + offset], Setting())[0] == score
    assert run("sol_eval", "CCO", ["scaffold", "c1ccccc1", 0.0], Setting()) == (0.0, Why.constraint)
    assert run("sol_eval", "Cc1ccccc1.O", ["scaffold", "c1ccccc1", value], Setting()) == (0.0, Why.several_molecules)
    # any one of the groups is enough, as published
    assert run("sol_eval", "CCO", ["groups", ["hydroxyl", "nitro"], esol(read_molecule("CCO"))], Setting())[0] == 1
    assert run("sol_eval", "CCO", ["groups", ["nitro"], 0.0], Setting()) == (0.0, Why.constraint)
    near = ["tanimoto", "CCCCCCCCO", esol(read_molecule("CCCCCCCCCO"))]
    assert run("sol_eval", "CCCCCCCCCO", near, Setting())[0] == 1  # 9 against 8 carbons: 11 % more heavy atoms
    assert run("sol_eval", "CCCCCCCCCCCCO", near, Setting()) == (0.0, Why.constraint)  # alike, but 44 % more


def test_soft_mode_gives_part_marks():
    soft = Setting(soft=True)
    score, why = run("product_eval", "CC(=O)Nc1ccccn1", "CC(=O)Nc1ccccc1", soft)
    assert 0 < score < 1 and why is Why.wrong
    assert run("formula_eval", "CC(C)(C)O", "CCCCO", soft) == (0.5, Why.not_similar)
    assert run("functional_group_eval", "COC", ("C2H6O", ["hydroxyl"]), soft) == (0.5, Why.wrong_groups)


def test_reactants_must_be_in_stock_when_there_is_one():
    stocked = Setting(stock=frozenset({"O=C(O)c1ccccc1"}))
    product = "CCNC(=O)c1ccccc1"
    assert run("rxn_forward", "O=C(O)c1ccccc1.CCN>>", product, stocked) == (1.0, Why.valid)  # ethylamine has 3 heavy atoms
    assert run("rxn_forward", "COC(=O)c1ccccc1.CCN>>", product, stocked)[1] is Why.not_purchasable


def test_reasonable_means_seen_rings_environments_and_a_small_counter_ion():
    seen, bad = build(["CCCCO", "Cc1ccccc1", "no molecule"])
    assert bad == 1 and "c1ccccc1" in seen.rings
    assert fault(read_molecule("CCCCO"), seen) is None
    assert fault(read_molecule("C1CCC1"), seen) == "ring" and fault(read_molecule("CCCCN"), seen) == "environment"
    assert fault(read_molecule("CCCCCCO.CCCCCC")) == "counter-ion" and fault(read_molecule("CCO.O.O")) == "counter-ion"
    assert run("formula_eval", "OCCCC", "CCCCO", Setting(seen=seen))[0] == 1
    assert run("formula_eval", "OCCCC", "CCCCO", Setting(seen=Seen(frozenset(), frozenset()))) == (0.0, Why.environment)


def test_the_good_molecule_list_of_ether0():
    hits = {
        "CC[N+](=O)[O-]": "nitro",
        "CCCCCCCC": "seven sp3 carbons",
        "CCON=O": "nitrite",
        "CN=NN": "three adjacent N",
        "CSSSC": "S-S-S",
        "COOC": "O~O",
        "CNN": "N-NH2",
    }
    for smiles, name in hits.items():
        assert name in reos_hits(read_molecule(smiles)), smiles
    assert reos_hits(read_molecule("CC(=O)Nc1ccc(O)cc1")) == []


def test_solutions_are_taken_apart_and_faulty_truths_are_errors_not_wrong_answers():
    assert ether0.split_solution("product_eval!:!CCO!:!reaction-prediction") == ("product_eval", "CCO", "reaction-prediction")
    with pytest.raises(ValueError, match="no ether0 solution"):
        ether0.split_solution("unknown!:!x!:!y")
    for function, info in (("product_eval", "C1CC"), ("functional_group_eval", ("nothing",)), ("sol_eval", ["size", "C", 0])):
        with pytest.raises(ValueError, match=r"."):
            run(function, "CCO", info, Setting())
