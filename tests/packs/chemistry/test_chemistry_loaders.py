"""Rows of every shape become the right questions; bad ones are named with file, row, field and reason."""

import json

import pytest

from factory.contracts import DataRequest
from factory.domains.chemistry.loaders import LOADER, SHAPES
from factory.errors import ConfigError, DataError
from factory.plugins import load_pack

PACK = load_pack("chemistry")
V = PACK.verifiers()


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def everything(path, kind="samples", **options):
    """Items of all splits."""
    found = []
    for split in ("train", "validation", "test"):
        try:
            found += getattr(PACK, kind)(split, 0, DataRequest(paths=(str(path),), options=options))
        except DataError as err:
            assert "no " + ("documents" if kind == "corpus" else kind) in str(err), err
    return sorted(found, key=lambda item: item.sample.id if kind == "lessons" else item.id)


def check(path, **options):
    return PACK.check(DataRequest(paths=(str(path),), options=options))


SELFIES = "[C][C][O]"
ROWS = {
    "ether0": ({"id": "1", "problem": "Make it.", "solution": "product_eval!:!CCO!:!reaction-prediction", "problem_type": "reaction-prediction",
                "ideal": "CCO"}, "ether0", "OCC"),
    "smolinstruct": ({"sample_id": "a", "input": "Predict: <SMILES> CCO;CC(=O)O </SMILES>", "raw_input": "CCO;CC(=O)O", "raw_output": "CCOC(C)=O",
                      "task": "forward_synthesis"}, "forward", "CCOC(=O)C"),
    "smol-formula": ({"input": "Formula of <IUPAC> ethanol </IUPAC>", "raw_input": "ethanol", "raw_output": "C2H6O", "task": "name_conversion-i2f"},
                     "formula", None),
    "chemcot-groups": ({"smiles": "OCCO", "fg_name": "hydroxyls", "fg_smarts": "*-[O;D1]", "fg_label": "-O", "fg_num": 2}, "groups", "2"),
    "chemcot-scaffold": ({"smiles": "OCc1ccccc1", "largest_scaffold": "c1ccccc1"}, "scaffold", "c1ccccc1"),
    "chemcot-goal": ({"src_smiles": "CCO", "prop": "logp"}, "optimise", "CCCCO"),
    "edit": ({"Instruction": "Add a hydroxyl to CCN.", "molecule": "CCN", "added_group": "hydroxyl"}, "add", "OCCN"),
    "edit-swap": ({"Instruction": "Replace.", "molecule": "CCCl", "added_group": "hydroxyl", "removed_group": "halo"}, "swap", "CCO"),
    "tomg-goal": ({"Instruction": "Make CCO lower in logP.", "molecule": "CCO", "logP": -0.0014}, "optimise", "OCCO"),
    "tomg-custom": ({"Instruction": "4 carbon, 1 oxygen.", "carbon": 4, "oxygen": 1, "nitrogen": 0}, "compose", "CCCCO"),
    "tomg-groups": ({"Instruction": "One benzene ring.", "benzene rings": 1, "hydroxyl": 1}, "compose", "Oc1ccccc1"),
    "reaction": ({"reaction_smiles": "CC(=O)O.CCN>CN(C)C=O>CCNC(C)=O"}, "forward", "CCNC(C)=O"),
    "conditions": ({"reactants": "CC(=O)O.CCN", "product": "CCNC(C)=O", "conditions": "HATU, DMF"}, "conditions", "DMF, HATU"),
    "routes": ({"target": "CCC(=O)NCC1CC1", "stock": "CCC(=O)OC.NCC1CC1"}, "route", "CCC(=O)OC>>CCC(=O)O;CCC(=O)O.NCC1CC1>>CCC(=O)NCC1CC1"),
    "compositions": ({"composition": "NaCl", "e_above_hull": 0.0}, "stability", "yes"),
    "gap": ({"composition": "Fe2O3", "gap expt": 2.2}, "value", "2.1"),
    "metal": ({"composition": "Fe", "is_metal": True}, "same", "yes"),
    "esol": ({"smiles": "CCO", "measured log solubility in mols per litre": 1.1}, "value", "1.3"),
    "bbbp": ({"name": "x", "smiles": "CCO", "p_np": 1}, "same", "yes"),
    "tox21": ({"smiles": "CCO", "NR-AR": 0, "SR-p53": ""}, "same", "no"),
    "derived": ({"smiles": "CCO"}, "formula", "C2H6O"),
    "choice": ({"question": "Which is an acid?", "options": ["CCO", "CC(=O)O"], "answer": "B"}, "choice", "B"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_its_question_and_its_answer_is_scored(name, tmp_path):
    row, task, answer = ROWS[name]
    path = write(tmp_path, "rows.json", [row])
    [item] = everything(path)
    assert item.task == task, (item.task, item.messages)
    if answer is not None:
        shape = item.meta.get("shape")
        key = item.meta.get("json_key", "output")
        completion = {"json": json.dumps({key: answer}), "smolinstruct": f"<SMILES> {answer} </SMILES>"}.get(
            shape, f"<answer>{answer}</answer>"
        )
        if shape == "ether0":
            completion = f"<|think_start|>x<|think_end|><|answer_start|>{answer}<|answer_end|>"
        verdict = V["accuracy"](completion, item)
        assert verdict.score == 1.0, verdict


def test_every_shape_is_met_by_these_rows():
    met = {LOADER.finder.shapes[i].name for i in range(len(SHAPES))}
    assert {"moleculenet", "smiles-table", "mol-instructions", "crystals", "ether0"} <= met


def test_mol_instructions_selfies_become_smiles(tmp_path):
    pytest.importorskip("selfies")
    row = {"instruction": "Give the product as SELFIES.", "input": "[C][C][=Branch1][C][=O][O].[C][O]", "output": "[C][C][=Branch1][C][=O][O][C]",
           "metadata": {"task": "forward reaction prediction", "split": "train"}}  # fmt: skip
    [item] = everything(write(tmp_path, "m.json", [row]))
    assert item.split == "train" and item.reference == "COC(C)=O" and "CC(=O)O.CO" in item.messages[-1].content
    assert "SMILES" in item.messages[-1].content and V["molecule"]("<think>x</think><answer>CC(=O)OC</answer>", item).score == 1.0
    caption = {**row, "input": SELFIES, "output": "It is an alcohol.", "metadata": {"task": "molecular description generation"}}
    path = write(tmp_path, "c.json", [caption])
    assert [lesson.response for lesson in everything(path, "lessons")] == ["It is an alcohol."]
    bad = {**row, "metadata": {"task": "protein design"}}
    assert check(write(tmp_path, "b.json", [bad])).num_bad == 1


def test_blank_targets_are_no_fault_and_each_filled_one_is_a_question(tmp_path):
    path = write(tmp_path, "tox.csv", "smiles,NR-AR,NR-ER,SR-p53\nCCO,0,,1\nCCN,,,\n")
    found = everything(path)
    assert sorted(item.meta.get("target", item.task) for item in found) == ["NR-AR", "SR-p53", "formula"]
    assert check(path).num_bad == 0


def test_bad_rows_are_named_with_field_and_reason(tmp_path):
    path = write(tmp_path, "bad.csv", "smiles,exp\nC1CC,1\nCCO,high\nCCO the answer,2\n,3\nCCN,nan\nCCC,1.0\n")
    report = check(path)
    assert (report.num_good, report.num_bad) == (1, 5)
    text = "\n".join(map(str, report.first_bad))
    for part in (
        "bad.csv:2: smiles: RDKit cannot read",
        "bad.csv:3: exp: 'high' is no number",
        "more than one word",
        "smiles: is blank",
        "no finite number",
    ):
        assert part in text, (part, text)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"problem": "x", "solution": "made_up!:!a!:!b", "problem_type": "b"}, "solution"),
        ({"input": "x", "raw_input": "x", "raw_output": "y", "task": "poetry"}, "task"),
        ({"smiles": "CCO", "fg_name": "x", "fg_num": "many"}, "fg_num"), ({"src_smiles": "CCO", "prop": "drd2"}, "prop"),
        ({"Instruction": "x", "molecule": "CCO", "added_group": "unobtainium"}, "added_group"),
        ({"Instruction": "x", "carbon": 0, "oxygen": 0}, "Instruction"), ({"reaction_smiles": "CCO"}, "reaction_smiles"),
        ({"reaction_smiles": ">>CCO"}, "reaction_smiles"), ({"composition": "Xx2", "e_above_hull": 0}, "composition"),
        ({"composition": "NaCl", "e_above_hull": "low"}, "e_above_hull"), ({"cif": "data_x\n", "stable": 1}, "cif"),
        ({"smiles": "CCO", "p_np": 2}, "p_np"), ({"reactants": "CCO", "product": "CC=O", "conditions": ", ,"}, "conditions"),
    ],
)  # fmt: skip
def test_faults_of_benchmark_rows(row, field, tmp_path):
    report = check(write(tmp_path, "rows.json", [row]))
    assert report.num_bad == 1 and report.first_bad[0].field == field, report.first_bad


def test_scaffolds_stay_in_one_split(tmp_path):
    rows = "smiles,exp\n" + "".join(f"{'C' * n}c1ccc{ring}1,1\n" for n in range(1, 7) for ring in ("cc", "nc", "s", "o"))
    splits = {}
    for item in everything(write(tmp_path, "rings.csv", rows)):
        splits.setdefault(item.meta["group"], set()).add(item.split)
    assert len(splits) == 4 and all(len(found) == 1 for found in splits.values())
    loose = {item.meta["group"] for item in everything(tmp_path / "rings.csv", split_by="molecule")}
    assert len(loose) == 24


def test_reactions_give_retro_and_conditions_on_request(tmp_path):
    path = write(tmp_path, "r.csv", "rxn,ea\nCC(=O)O.CCN>CN(C)C=O>CCNC(C)=O,12.5\n")
    found = {item.task: item for item in everything(path, reactions=["forward", "retro", "conditions"], target=["ea"])}
    assert set(found) == {"forward", "retro", "conditions", "value"}
    assert found["retro"].reference == {"product": "CCNC(C)=O", "reactants": ["CC(=O)O", "CCN"]}
    assert found["conditions"].reference == ["CN(C)C=O"] and found["value"].reference == 12.5
    assert V["retro"]("<think>x</think><answer>CCN.OC(C)=O</answer>", found["retro"]).parts["exact"] == 1.0


SDF = """ethanol
     RDKit          2D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.2990    0.7500    0.0000 C   0  0
    2.5981   -0.0000    0.0000 O   0  0
  1  2  1  0
  2  3  1  0
M  END
>  <exp>  (1)
-0.31

>  <note>
two
lines

$$$$
"""


def test_structure_files(tmp_path, capfd):
    path = write(
        tmp_path,
        "m.sdf",
        SDF + SDF.replace("  3  2  0", "  9  2  0") + SDF.replace("M  END", "M  STOP") + SDF.replace("  3  2", "999  2"),
    )
    report = check(path)
    assert (report.num_good, report.num_bad) == (1, 3) and capfd.readouterr().err == ""
    [item] = everything(write(tmp_path, "one.sdf", SDF))
    assert item.task == "value" and item.reference == -0.31 and "CCO" in item.messages[-1].content
    smi = write(tmp_path, "list.smi", "# comment\nCCO ethanol\nc1ccccc1 benzene\nC1CC broken\n")
    assert (check(smi).num_good, check(smi).num_bad) == (2, 1)
    rsmi = write(tmp_path, "list.rsmi", "CC(=O)O.CCN>>CCNC(C)=O amide\n")
    assert [item.task for item in everything(rsmi)] == ["forward"]


def test_rxn_files(tmp_path):
    from rdkit.Chem import rdChemReactions

    block = rdChemReactions.ReactionToRxnBlock(rdChemReactions.ReactionFromSmarts("CC(=O)O.CCN>>CCNC(C)=O", useSmiles=True))
    [item] = everything(write(tmp_path, "a.rxn", block))
    assert item.task == "forward" and item.reference == "CCNC(C)=O"
    assert check(write(tmp_path, "b.rxn", "$RXN\nbroken\n")).num_bad == 1


def test_crystal_files_are_documents(tmp_path):
    from .test_chemistry_reactions import CIF

    [document] = everything(write(tmp_path, "nacl.cif", CIF), "corpus")
    assert "ClNa" in document.text and "F m -3 m" in document.text
    labelled = write(tmp_path, "rows.json", [{"cif": CIF, "e_above_hull": 0.05}])
    [item] = everything(labelled)
    assert item.task == "stability" and item.reference == "no"
    assert everything(labelled, stable_below=0.1)[0].reference == "yes"


def test_settings_are_checked_and_unknown_tables_explained(tmp_path):
    path = write(tmp_path, "x.csv", "smiels,value\nCCO,1\n")
    with pytest.raises(DataError, match="smiles"):
        check(path)
    assert check(path, smiles_field="smiels", shape="smiles-table", target=["value"]).num_good == 1
    for options, match in (
        ({"split_by": "size"}, "split_by"),
        ({"derive": ["colour"]}, "derive"),
        ({"tolerance": -1}, "tolerance"),
        ({"targets": []}, "target"),
    ):
        with pytest.raises(ConfigError, match=match):
            check(path, **options)


def test_documents_state_computed_facts(tmp_path):
    path = write(tmp_path, "s.csv", "smiles,exp\nCCO,-0.31\n*CC,1\n")
    texts = [document.text for document in everything(path, "corpus")]
    assert any("C2H6O" in text and "exp -0.31" in text for text in texts) and any("polymer unit" in text for text in texts)
