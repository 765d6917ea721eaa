"""Real files: the RDKit facts of SOURCES.md, and real model outputs read and scored."""

import csv
import json
from collections import Counter
from dataclasses import replace

import pytest

from factory.contracts import DataRequest
from factory.domains.chemistry.groups import count_smarts
from factory.domains.chemistry.metrics import count_figures, edit_figures, improvement_figures
from factory.domains.chemistry.molecules import canonical_smiles, read_molecule
from factory.domains.chemistry.properties import count_of, property_of, scaffold
from factory.domains.chemistry.reading import extract
from factory.plugins import load_pack
from factory.rewards.formats import parse

PACK = load_pack("chemistry")
V = PACK.verifiers()


def rows_of(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_esol_column_is_reproduced(chemistry_data):
    rows = rows_of(chemistry_data / "moleculenet" / "delaney-processed.csv")
    assert len(rows) == 1128
    errors = []
    for row in rows:
        mol = read_molecule(row["smiles"])
        assert property_of(mol, "mw") == pytest.approx(float(row["Molecular Weight"]), abs=1e-6)
        assert property_of(mol, "tpsa") == pytest.approx(float(row["Polar Surface Area"]), abs=1e-6)
        wanted = [int(row[name]) for name in ("Number of H-Bond Donors", "Number of Rings", "Number of Rotatable Bonds")]
        assert [count_of(mol, name) for name in ("donors", "rings", "rotors")] == wanted, row["Compound ID"]
        errors.append(property_of(mol, "solubility") - float(row["measured log solubility in mols per litre"]))
    rmse = (sum(error * error for error in errors) / len(errors)) ** 0.5
    assert rmse == pytest.approx(1.01, abs=0.005)  # the guide's figure for the refit


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("delaney-processed.csv", 1128, 0),
        ("clintox.csv", 1480, 4),
        pytest.param("Lipophilicity.csv", 4200, 0, marks=pytest.mark.slow),
    ],
)
def test_unparsable_rows_are_counted_as_stated(chemistry_data, name, good, bad, capfd):
    report = PACK.check(DataRequest(paths=(str(chemistry_data / "moleculenet" / name),)))
    assert (report.num_good, report.num_bad) == (good, bad)
    assert all(row.field == "smiles" and row.row > 1 for row in report.first_bad)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_clintox_loads_with_its_bad_rows_and_gives_both_targets(chemistry_data):
    request = DataRequest(paths=(str(chemistry_data / "moleculenet" / "clintox.csv"),))
    samples = [sample for split in ("train", "validation", "test") for sample in PACK.samples(split, 0, request)]
    assert Counter(sample.meta["target"] for sample in samples) == {"FDA_APPROVED": 1480, "CT_TOX": 1480}
    groups = {}
    for sample in samples:
        groups.setdefault(sample.meta["group"], set()).add(sample.split)
    assert all(len(splits) == 1 for splits in groups.values())


@pytest.mark.parametrize(
    ("name", "rows", "tasks"),
    [("mol.csv", 100, {"value"}), ("rxn.csv", 100, {"forward"}), ("smis.csv", 100, {"formula", "scaffold"}), ("mol_multitask.csv", 499, {"formula", "scaffold"}),
     ("mol_with_splits.csv", 100, {"value"})],
)  # fmt: skip
def test_chemprop_tables(chemistry_data, name, rows, tasks):
    path = str(chemistry_data / "chemprop" / name)
    report = PACK.check(DataRequest(paths=(path,)))
    assert (report.num_good, report.num_bad) == (rows, 0)
    assert {sample.task for sample in PACK.samples("train", 0, DataRequest(paths=(path,)))} == tasks


def test_reactions_with_atom_maps_and_explicit_hydrogens_become_plain(chemistry_data):
    request = DataRequest(paths=(str(chemistry_data / "chemprop" / "rxn.csv"),), options={"target": ["ea"]})
    found = list(PACK.samples("train", 0, request))
    assert {sample.task for sample in found} == {"forward", "value"}
    # Two at most: H2 itself, and [H]/N=C, where the hydrogen carries the stereo of the double bond.
    assert not any(":1]" in (text := sample.messages[-1].content) or text.count("[H]") > 2 for sample in found)


# --- ChemCoTBench: gold answers and real model outputs --------------------------------------------------------------------

LOGS = ("add.ether0", "add.claude3.7", "delete.ether0", "fg_samples.ether0", "fg_samples.claude3.7", "murcko_scaffold.ether0",
        "murcko_scaffold.claude3.7", "logp.ether0", "logp.claude3.7", "solubility.ether0")  # fmt: skip


@pytest.fixture(scope="session")
def logs(chemistry_data):
    """Log -> (row, sample, output) for each row; the samples are those that the loader makes of the rows."""
    found = {}
    for name in LOGS:
        path = chemistry_data / "chemcotbench" / f"{name}.json"
        rows = json.loads(path.read_text())
        samples = {}
        for split in ("train", "validation", "test"):
            samples.update(
                {sample.id.rpartition(":")[2]: sample for sample in PACK.samples(split, 0, DataRequest(paths=(str(path),)))}
            )
        assert len(samples) == len(rows)
        shape = {"shape": "ether0"} if name.endswith("ether0") else {}
        found[name] = [
            (row, replace(sample, meta={**sample.meta, **shape}), said if isinstance(said := row["json_results"], str) else json.dumps(said))
            for number, row in enumerate(rows, 1)
            for sample in [samples[str(row.get("id", number))]]
        ]  # fmt: skip
    return found


def test_gold_of_the_benchmark_recomputes(logs):
    """SOURCES.md: fg_num 100 of 100, Murcko 40 of 40. (Ring counts and permutations are not among the copied logs.)"""
    rows = [row for row, _, _ in logs["fg_samples.ether0"]]
    assert sum(count_smarts(read_molecule(row["smiles"]), row["fg_smarts"]) == row["fg_num"] for row in rows) == len(rows) == 100
    rows = [row for row, _, _ in logs["murcko_scaffold.ether0"]]
    assert (
        sum(scaffold(read_molecule(row["smiles"])) == canonical_smiles(row["largest_scaffold"]) for row in rows)
        == len(rows)
        == 40
    )


def test_eighteen_of_twenty_ether0_outputs_end_with_an_answer_block(logs):
    """SOURCES.md: 18 of 20."""
    outputs = [output for _, _, output in logs["add.ether0"]]
    assert sum(parse(output, "ether0").answer is not None for output in outputs) == 18
    assert sum(parse(output, "ether0").well_formed for output in outputs) == 18


def test_references_of_the_edits_are_right_by_our_verifier(logs):
    for name in ("add.ether0", "delete.ether0"):
        for row, sample, _ in logs[name]:
            gold = f"<|think_start|>x<|think_end|><|answer_start|>{row['reference']}<|answer_end|>"
            counts = V["edit_counts"](gold, sample)
            assert V["edit"](gold, sample).score == counts.score, (row, counts.reason)


VERDICTS = {  # log: (ok, wrong, unparsable), as measured with RDKit 2026.09.1
    "add.ether0": (15, 3, 2), "add.claude3.7": (13, 4, 3), "delete.ether0": (8, 6, 6), "fg_samples.ether0": (46, 7, 47),
    "fg_samples.claude3.7": (84, 16, 0), "murcko_scaffold.ether0": (0, 10, 30), "murcko_scaffold.claude3.7": (4, 29, 7),
    "logp.ether0": (54, 10, 36), "logp.claude3.7": (46, 53, 1), "solubility.ether0": (54, 12, 34),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_real_outputs_are_scored(logs, name):
    """Every output gets a verdict with a reason; none is an error. The counts pin how answers are taken out."""
    verdicts = [V["accuracy"](output, sample) for _, sample, output in logs[name]]
    assert all(verdict.reason and not verdict.status.is_masked for verdict in verdicts)
    counts = Counter(verdict.status.value for verdict in verdicts)
    assert (counts["ok"], counts["wrong"], counts["unparsable"]) == VERDICTS[name]


def test_answers_read_are_the_answers_given(logs):
    """Independently of the verifiers: where Claude gave a JSON object, its count against the gold is our verdict."""
    for row, sample, output in logs["fg_samples.claude3.7"]:
        if isinstance(row["json_results"], dict):
            is_right = int(row["json_results"]["count"]) == row["fg_num"]
            assert V["accuracy"](output, sample).score == float(is_right), row


def test_refusals_are_unparsable_not_molecules(logs):
    refusals = [
        (sample, output)
        for name in ("logp.ether0", "solubility.ether0")
        for _, sample, output in logs[name]
        if "can't answer" in output
    ]
    assert len(refusals) > 40
    assert all(V["accuracy"](output, sample).status.value == "unparsable" for sample, output in refusals)


def test_benchmark_formulas_over_the_logs(logs):
    def answers(name):
        shape = "ether0" if name.endswith("ether0") else "json"
        for _, _, output in logs[name]:
            try:
                yield extract(output, shape, is_lenient=True)
            except ValueError:
                yield None

    starts = [row["src_smiles"] for row, _, _ in logs["logp.claude3.7"]]
    found = improvement_figures(starts, list(answers("logp.claude3.7")), "logp")
    assert found["validity"] >= 0.95 and found["success_rate"] > found["best_rate"] > 0.3
    rows = [row for row, _, _ in logs["add.ether0"]]
    edits = edit_figures(
        [row["molecule"] for row in rows], list(answers("add.ether0")), [row["added_group"] for row in rows], [""] * 20
    )
    assert edits["accuracy"] == 17 / 20 and edits["validity"] == 18 / 20
    counts = [int(value) if value and value.isdigit() else None for value in answers("fg_samples.claude3.7")]
    figures = count_figures(counts, [row["fg_num"] for row, _, _ in logs["fg_samples.claude3.7"]])
    assert figures["accuracy"] == 0.84 and figures["answered"] == 1.0
