"""Rows of public chemistry benchmarks: SMolInstruct, Mol-Instructions, ChemCoTBench, TOMG-Bench, ether0."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from factory.contracts import Message
from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.domains.chemistry.ether0 import split_solution
from factory.domains.chemistry.groups import group_named
from factory.domains.chemistry.loaders_molecules import clean, group, molecule_of, screened
from factory.domains.chemistry.loaders_settings import LoadOptions
from factory.domains.chemistry.molecules import canonical
from factory.errors import DataError
from factory.packs.common_shapes import RowShape
from factory.packs.records import LESSONS, SAMPLES, Record

_SELFIES = re.compile(r"(?:\[[^\[\]]{1,20}\]\.?)+")

SMOL_TASKS = {
    "forward_synthesis": "forward", "retrosynthesis": "retro", "molecule_captioning": "caption", "molecule_generation": "molecule",
    "name_conversion-i2f": "formula", "name_conversion-i2s": "molecule", "name_conversion-s2f": "formula", "name_conversion-s2i": "text",
    "property_prediction-esol": "value", "property_prediction-lipo": "value", "property_prediction-bbbp": "same",
    "property_prediction-clintox": "same", "property_prediction-hiv": "same", "property_prediction-sider": "same",
}  # fmt: skip
"""SMolInstruct's task -> ours."""
MOL_TASKS = {
    "forward reaction prediction": "forward", "retrosynthesis": "retro", "reagent prediction": "conditions",
    "description guided molecule design": "molecule", "molecular description generation": "caption", "property prediction": "value",
}  # fmt: skip
"""Mol-Instructions' task (metadata) -> ours."""
ELEMENT_WORDS = {
    "carbon": "C", "oxygen": "O", "nitrogen": "N", "sulfur": "S", "fluorine": "F", "chlorine": "Cl", "bromine": "Br", "iodine": "I",
    "phosphorus": "P", "boron": "B", "silicon": "Si", "selenium": "Se", "tellurium": "Te", "arsenic": "As", "antimony": "Sb",
    "bismuth": "Bi", "polonium": "Po",
}  # fmt: skip
BOND_KINDS = ("single", "double", "triple", "rotatable", "aromatic")


def _smol(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    name = text_cell(row, "task")
    task = SMOL_TASKS.get(name)
    if task is None:
        raise RowFault("task", f"{name!r} is no task of SMolInstruct; known: {', '.join(SMOL_TASKS)}.")
    answer = text_cell(row, "raw_output", "target")
    record = Record(
        SAMPLES, turns=(Message("user", text_cell(row, "input", "raw_input")),), task=task, meta=settings.extra_meta()
    )
    record.meta["shape"] = "whole" if task == "caption" else "smolinstruct"
    if optional_cell(row, "sample_id") is not None:
        record.key = str(row["sample_id"])
    return _referenced(record, task, answer, text_cell(row, "raw_input"), settings)


def _referenced(record: Record, task: str, answer: str, asked: str, settings: LoadOptions) -> Record:
    """Fill in the reference of a task from the text of its answer, and the group from the molecule."""
    column = "output"
    if task in ("forward", "molecule", "retro"):
        smiles = clean(answer.replace(";", "."), column)
        screened(settings, column, smiles)
        record.group = group(molecule_of(smiles, column), settings)
        record.answer = smiles
        if task == "forward":
            record.meta["rule"] = "largest"
        if task == "retro":
            product = clean(asked.replace(";", "."), "input")
            record.group = group(molecule_of(product, "input"), settings)
            record.reference, record.meta["gold"] = {"product": product, "reactants": smiles.split(".")}, smiles
        return record
    source = re.search(r"<SMILES>\s*(\S+)\s*</SMILES>", asked)
    text = source.group(1) if source else asked
    record.group = f"input={text.strip()}"
    if task == "value":
        try:
            record.reference = float(answer)
        except ValueError as err:
            raise RowFault(column, f"{answer!r:.40} is no number.") from err
        record.meta["tolerance"] = settings.tolerance
    elif task == "same":
        if answer.strip().casefold() not in ("yes", "no", "true", "false"):
            raise RowFault(column, f"{answer!r:.40} is neither yes nor no.")
        record.answer = "yes" if answer.strip().casefold() in ("yes", "true") else "no"
    elif task == "conditions":
        smiles = clean(answer.replace(";", "."), column)
        record.reference, record.meta["gold"] = smiles.split("."), ", ".join(smiles.split("."))
    else:
        record.answer = answer
    return record


def decode_selfies(text: str, column: str) -> str:
    """SMILES of a SELFIES (parts joined by dots). Raises RowFault, or DataError when the package is missing."""
    try:
        import selfies
    except ImportError as err:
        raise DataError("SELFIES need the package 'selfies': pip install 'domain-factory[chemistry]'.") from err
    if len(text) > 20_000:
        raise RowFault(column, "a SELFIES of more than 20000 characters.")
    try:
        return ".".join(selfies.decoder(part) for part in text.split("."))
    except Exception as err:  # selfies raises DecoderError and more for broken text
        raise RowFault(column, f"no SELFIES: {str(err)[:100]}") from err


def plain_smiles(text: str, column: str) -> str:
    """The text, with SELFIES turned into SMILES; reactants and products around `>>` keep it."""
    stripped = text.strip()
    parts = stripped.split(">>")
    if all(not part or _SELFIES.fullmatch(part) for part in parts) and _SELFIES.search(stripped):
        return ">>".join(decode_selfies(part, column) if part else "" for part in parts)
    return stripped


def _mol_instructions(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    about = row.get("metadata") if isinstance(row.get("metadata"), Mapping) else {}
    name = str(about.get("task") or "").strip().casefold()
    task = MOL_TASKS.get(name)
    if task is None:
        raise RowFault("metadata", f"task {name!r} is none of Mol-Instructions' molecule tasks; known: {', '.join(MOL_TASKS)}.")
    asked, answer = plain_smiles(str(row.get("input") or ""), "input"), plain_smiles(text_cell(row, "output"), "output")
    instruction = text_cell(row, "instruction").replace("SELFIES", "SMILES")
    record = Record(SAMPLES | (LESSONS if task == "caption" else SAMPLES), text=f"{instruction}\n{asked}".strip(), task=task,
                    meta=settings.extra_meta(), split=about.get("split") if isinstance(about.get("split"), str) else None)  # fmt: skip
    if task == "caption":
        record.response = answer
        record.meta["shape"] = "whole"
    return _referenced(record, task, answer, asked, settings)


def _edit_reference(row: Mapping[str, Any], settings: LoadOptions) -> tuple[dict[str, Any], str]:
    reference: dict[str, Any] = {"start": text_cell(row, "molecule")}
    screened(settings, "molecule", reference["start"])
    for column, key in (("added_group", "add"), ("removed_group", "remove")):
        name = optional_cell(row, column)
        if name is not None:
            try:
                reference[key] = group_named(str(name)).name
            except KeyError as err:
                raise RowFault(column, str(err.args[0])) from err
    return reference, "swap" if "add" in reference and "remove" in reference else "add" if "add" in reference else "delete"


def _edit(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    """Adding, deleting or substituting a group: ChemCoTBench (JSON answers) and TOMG-Bench (bare)."""
    reference, task = _edit_reference(row, settings)
    mol = molecule_of(reference["start"], "molecule")
    is_cot = optional_cell(row, "reference") is not None
    meta = settings.extra_meta() | ({"shape": "json", "json_key": "output"} if is_cot else {})
    if is_cot:
        meta["gold"] = str(row["reference"])
    suffix = '\nAnswer with a JSON object: {"output": "SMILES"}' if is_cot else "\nGive the SMILES."
    return Record(
        SAMPLES,
        group=group(mol, settings),
        task=task,
        reference=reference,
        text=text_cell(row, "Instruction") + suffix,
        meta=meta,
    )


def _chemcot_group(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    """Count of a fragment given by SMARTS."""
    text, name = text_cell(row, "smiles"), text_cell(row, "fg_name")
    mol = molecule_of(text)
    count = cell(row, "fg_num")
    try:
        number = int(count)
    except (TypeError, ValueError, OverflowError) as err:
        raise RowFault("fg_num", f"{count!r:.40} is no count.") from err
    asked = f'How many times does the fragment {name} ({row.get("fg_label", "")}) occur in {text}? Answer with a JSON object: {{"count": number}}'
    meta = settings.extra_meta() | {"shape": "json", "json_key": "count", "smarts": str(row.get("fg_smarts", ""))}
    return Record(SAMPLES, group=group(mol, settings), task="groups", reference=number, text=asked, meta=meta)


def _chemcot_scaffold(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    text = text_cell(row, "smiles")
    mol = molecule_of(text)
    answer = clean(text_cell(row, "largest_scaffold"), "largest_scaffold")
    asked = f'Give the Murcko scaffold of {text}. Answer with a JSON object: {{"Output Scaffold": "SMILES"}}'
    meta = settings.extra_meta() | {"shape": "json", "json_key": "Output Scaffold"}
    return Record(SAMPLES, group=group(mol, settings), task="scaffold", answer=answer, text=asked, meta=meta)


GOALS = {"logp": 0.5, "logd": 0.5, "solubility": 0.5, "qed": 0.3}
"""Property that RDKit computes -> change of ChemCoTBench's best rate."""


def _chemcot_goal(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    text, name = text_cell(row, "src_smiles"), text_cell(row, "prop").casefold()
    if name not in GOALS:
        raise RowFault(
            "prop",
            f"{name!r} needs a predictor that is not shipped (known: {', '.join(GOALS)}); use the task design with an oracle.",
        )
    mol = molecule_of(text, "src_smiles")
    screened(settings, "src_smiles", text)
    asked = f'Change {text} so that its {name} rises. Answer with a JSON object: {{"Final Target Molecule": "SMILES"}}'
    reference = {"start": canonical(mol), "property": name, "direction": "up", "delta": GOALS[name], "similarity": 0.0}
    meta = settings.extra_meta() | {"shape": "json", "json_key": "Final Target Molecule"}
    return Record(SAMPLES, group=group(mol, settings), task="optimise", reference=reference, text=asked, meta=meta)


def _tomg_custom(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    """A molecule with numbers of atoms, bonds or groups; zeros ask for nothing."""
    found: dict[str, dict[str, int]] = {"atoms": {}, "bonds": {}, "groups": {}}
    for column, value in row.items():
        name = str(column).strip().casefold()
        try:
            number = int(float(value))
        except (TypeError, ValueError, OverflowError):
            continue
        if number <= 0 or name in ("index", "id"):
            continue
        if name in ELEMENT_WORDS:
            found["atoms"][ELEMENT_WORDS[name]] = number
        elif name.removesuffix(" bonds") in BOND_KINDS:
            found["bonds"][name.removesuffix(" bonds")] = number
        else:
            try:
                found["groups"][group_named(name).name] = number
            except KeyError as err:
                raise RowFault(str(column) or "column", "is neither an element, a kind of bond nor a known group.") from err
    reference = {key: value for key, value in found.items() if value}
    if not reference:
        raise RowFault("Instruction", "no column asks for atoms, bonds or groups.")
    return Record(
        SAMPLES,
        task="compose",
        reference=reference,
        text=f"{text_cell(row, 'Instruction')}\nGive the SMILES.",
        meta=settings.extra_meta(),
    )


def _tomg_goal(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    """MolOpt: the direction stands in the instruction (lower or decrease means down)."""
    text, asked = text_cell(row, "molecule"), text_cell(row, "Instruction")
    name = next((name for name in ("logP", "MR", "QED", "qed", "mr", "logp") if name in row), "").casefold()
    if not name:
        raise RowFault("logP", "column is missing, and so are MR and QED: the row does not say what is to change.")
    mol = molecule_of(text, "molecule")
    screened(settings, "molecule", text)
    direction = "down" if re.search(r"\b(lower|decreas\w*|reduc\w*)\b", asked, re.IGNORECASE) else "up"
    reference = {"start": text, "property": name, "direction": direction, "delta": 0.0, "similarity": 0.0}
    return Record(
        SAMPLES,
        group=group(mol, settings),
        task="optimise",
        reference=reference,
        text=f"{asked}\nGive the SMILES.",
        meta=settings.extra_meta(),
    )


def _ether0(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    try:
        function, info, kind = split_solution(text_cell(row, "solution"))
    except ValueError as err:
        raise RowFault("solution", str(err)) from err
    if function in ("product_eval", "caption_eval", "formula_eval"):
        screened(settings, "solution", info)
    meta = settings.extra_meta() | {"problem_type": kind, "shape": "ether0"}
    ideal = optional_cell(row, "ideal")
    if ideal is not None:
        meta["gold"] = str(ideal)
    return Record(SAMPLES, task="ether0", reference={"function": function, "info": info}, text=text_cell(row, "problem"), meta=meta,
                  group=f"problem={text_cell(row, 'problem')}")  # fmt: skip


_CUSTOM = (*ELEMENT_WORDS, *BOND_KINDS, *(f"{kind} bonds" for kind in BOND_KINDS), "hydroxyl", "amine", "carboxyl", "benzene ring", "benzene rings",
           "benzene_ring", "aldehyde", "ketone", "ester", "amide", "nitro", "halo", "nitrile", "thiol")  # fmt: skip
SHAPES = (
    RowShape("ether0", "ether0 rows", (("problem",), ("solution",), ("problem_type",)), None, SAMPLES, _ether0),
    RowShape("smolinstruct", "SMolInstruct", (("raw_input",), ("raw_output", "target"), ("task",)), None, SAMPLES, _smol),
    RowShape("mol-instructions", "Mol-Instructions (SELFIES)", (("instruction",), ("input",), ("output",), ("metadata",)), None,
             SAMPLES | LESSONS, _mol_instructions),
    RowShape("chemcot-groups", "ChemCoTBench fragment counts", (("smiles",), ("fg_name",), ("fg_num",)), None, SAMPLES, _chemcot_group),
    RowShape("chemcot-scaffold", "ChemCoTBench scaffolds", (("smiles",), ("largest_scaffold",)), None, SAMPLES, _chemcot_scaffold),
    RowShape("chemcot-goal", "ChemCoTBench optimisation", (("src_smiles",), ("prop",)), None, SAMPLES, _chemcot_goal),
    RowShape("edit", "ChemCoTBench and TOMG-Bench edits", (("Instruction",), ("molecule",), ("added_group", "removed_group")), None, SAMPLES, _edit),
    RowShape("tomg-goal", "TOMG-Bench MolOpt", (("Instruction",), ("molecule",), ("logP", "MR", "QED", "logp", "mr", "qed")), None, SAMPLES, _tomg_goal),
    RowShape("tomg-custom", "TOMG-Bench MolCustom", (("Instruction",), _CUSTOM), None, SAMPLES, _tomg_custom),
)  # fmt: skip
