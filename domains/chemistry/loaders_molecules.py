"""Rows of molecules: SMILES tables, MoleculeNet sets, structure files. One row may give several questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell
from factory.domains.chemistry.formulas import FormulaFault, formula_of, hill
from factory.domains.chemistry.loaders_settings import LoadOptions
from factory.domains.chemistry.molecules import MoleculeFault, canonical, canonical_smiles, read_molecule
from factory.domains.chemistry.properties import count_of, property_of, scaffold
from factory.domains.chemistry.screening import screen_of
from factory.packs.common_shapes import RowShape
from factory.packs.records import DOCUMENTS, SAMPLES, Record

SMILES_COLUMNS = ("smiles", "SMILES", "Smiles", "canonical_smiles", "mol", "structure_smiles")
NUMBERS = {
    "measured log solubility in mols per litre": "the measured solubility, as log10 of mol/L",
    "expt": "the measured hydration free energy in kcal/mol", "exp": "the measured octanol/water distribution coefficient (logD at pH 7.4)",
    "lipo": "the measured octanol/water distribution coefficient (logD at pH 7.4)", "pIC50": "pIC50 against BACE-1",
}  # fmt: skip
"""Column of a MoleculeNet set -> what is asked for."""
CLASSES = {
    "p_np": "cross the blood-brain barrier", "BBBP": "cross the blood-brain barrier", "FDA_APPROVED": "have FDA approval",
    "CT_TOX": "fail clinical trials for toxicity", "HIV_active": "inhibit HIV replication", "Class": "inhibit BACE-1",
    **{name: f"respond in the Tox21 assay {name}" for name in (
        "NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma", "SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP",
        "SR-p53")},
}  # fmt: skip
"""Column with 0 and 1 -> what is asked: "Does this molecule ...?"."""
TARGETS = (*NUMBERS, *CLASSES)


def molecule_of(text: Any, column: str = "smiles") -> Any:
    """The molecule of a cell, wildcards allowed (polymers occur in ClinTox). Raises RowFault."""
    try:
        return read_molecule(str(text), allow_wildcard=True)
    except MoleculeFault as err:
        raise RowFault(column, str(err)) from err


def clean(text: str, column: str) -> str:
    """Canonical SMILES without atom maps. Raises RowFault."""
    try:
        return canonical_smiles(text)
    except MoleculeFault as err:
        raise RowFault(column, str(err)) from err


def group(mol: Any, settings: LoadOptions) -> str:
    """What keeps a molecule's rows in one split. MoleculeNet puts all molecules without rings into one group; here each is its own."""
    frame = scaffold(mol) if settings.split_by == "scaffold" else ""
    return f"scaffold={frame}" if frame else f"molecule={canonical(mol, is_isomeric=False)}"


def screened(settings: LoadOptions, column: str, *texts: Any) -> None:
    """Refuse a row whose target is on the screening list. Raises RowFault; the structure is not told."""
    entry = screen_of(settings.extra_meta()).hit_in([str(text) for text in texts if text])
    if entry:
        raise RowFault(column, f"refused by the screening list ({entry}); see pack.screening_override.")


def smiles_cell(row: Mapping[str, Any], settings: LoadOptions) -> tuple[str, str]:
    """(text, column) of the row's SMILES. Raises RowFault."""
    names = (settings.smiles_field, *SMILES_COLUMNS) if settings.smiles_field else SMILES_COLUMNS
    value = cell(row, *names)
    return str(value).strip(), next(name for name in names if row.get(name) is value)


def labelled(row: Mapping[str, Any], settings: LoadOptions) -> Iterator[Record]:
    """One question per known or named target that the row fills; a blank cell (Tox21 has many) is no fault."""
    text, column = smiles_cell(row, settings)
    if ">" in text:
        from factory.domains.chemistry.loaders_reactions import reaction_records

        yield from reaction_records(text, column, row, settings)
        return
    mol = molecule_of(text, column)
    key, where, meta = _key(row), group(mol, settings), {**settings.extra_meta(), "smiles": text}
    names = settings.target or tuple(name for name in TARGETS if name in row)
    given = 0
    for name in names:
        value = optional_cell(row, name)
        if value is None:
            continue
        given += 1
        record = Record(SAMPLES, key=f"{key}:{name}" if key else None, group=where, meta={**meta, "target": name})
        if name in CLASSES:
            record.task, record.text = "same", f"Does this molecule {CLASSES[name]}? Answer yes or no. {text}"
            record.answer = _yes_no(value, name)
        else:
            asked = NUMBERS.get(name, f"the value of {name}")
            record.task, record.text = "value", f"Give {asked} of this molecule as a number. {text}"
            record.reference = _number(value, name)
            record.meta["tolerance"] = settings.tolerance
        yield record
    if not given:
        yield from derived(text, mol, key, settings)
    yield Record(DOCUMENTS, key=f"{key}:text" if key else None, group=where, text=described(text, mol, row, names))


def derived(text: str, mol: Any, key: str | None, settings: LoadOptions) -> Iterator[Record]:
    """Questions with computed answers about a molecule without a label."""
    meta, where = {**settings.extra_meta(), "smiles": text}, group(mol, settings)
    for name in settings.derive:
        record = Record(SAMPLES, key=f"{key}:{name}" if key else None, group=where, meta=dict(meta))
        if name == "formula":
            try:
                record.answer = hill(*formula_of(mol))
            except FormulaFault:
                continue
            record.task, record.text = "formula", f"What is the molecular formula of this molecule? {text}"
        elif name == "scaffold":
            record.answer = scaffold(mol)
            record.task, record.text = "scaffold", f"Give the Murcko scaffold of {text} as SMILES."
            if not record.answer or "*" in record.answer:
                continue
        else:
            record.reference = count_of(mol, "rings")
            record.task, record.text = "count", f"How many rings does this molecule have? {text}"
        yield record


def described(text: str, mol: Any, row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """A sentence of facts about a molecule, for continued pretraining."""
    facts = [f"logP {property_of(mol, 'logp'):.2f}", f"TPSA {property_of(mol, 'tpsa'):.1f}", f"{count_of(mol, 'rings')} rings"]
    try:
        facts.insert(0, f"formula {hill(*formula_of(mol))}")
    except FormulaFault:
        facts.insert(0, "a polymer unit")
    facts += [f"{name} {optional_cell(row, name)}" for name in names if optional_cell(row, name) is not None]
    return f"{text}: {', '.join(facts)}."


def _key(row: Mapping[str, Any]) -> str | None:
    value = optional_cell(row, "id", "CMPD_CHEMBLID", "mol_id", "name_id")
    return str(value) if value is not None else None


def _number(value: Any, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as err:
        raise RowFault(column, f"{value!r:.40} is no number.") from err
    if not math.isfinite(number):
        raise RowFault(column, f"{value!r} is no finite number.")
    return number


def _yes_no(value: Any, column: str) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as err:
        raise RowFault(column, f"{value!r:.40} is neither 0 nor 1.") from err
    if number not in (0.0, 1.0):
        raise RowFault(column, f"{value!r:.40} is neither 0 nor 1.")
    return "yes" if number else "no"


GIVES = SAMPLES | DOCUMENTS
SHAPES = (
    RowShape(
        "moleculenet",
        "ESOL, FreeSolv, Lipophilicity, BBBP, ClinTox, Tox21, HIV, BACE",
        (SMILES_COLUMNS, TARGETS),
        None,
        GIVES,
        labelled,
    ),
    RowShape(
        "smiles-table",
        "SMILES, perhaps with columns that pack.target names; also SDF and .smi",
        (SMILES_COLUMNS,),
        None,
        GIVES,
        labelled,
    ),
)
