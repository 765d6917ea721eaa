"""Structure files as rows, streamed: SDF and MOL, SMILES lists, reaction files, CIF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdkit import Chem

from factory.data.files import FileFormat, lines_of, open_checked, read_at_most
from factory.data.rows import RowFault
from factory.domains.chemistry.molecules import MAX_ATOMS, quiet

MAX_BLOCK = 2_000_000
"""Characters of one record of a structure file."""

Row = tuple[int, "dict[str, Any] | RowFault"]


def _lines(path: Path) -> Iterator[str]:
    with open_checked(path) as handle:
        for raw in lines_of(handle):
            yield raw.decode("utf-8", errors="replace").rstrip("\r\n")


def _blocks(path: Path) -> Iterator[tuple[list[str], bool]]:
    """Lines of each SDF record, and whether it grew too long to be kept."""
    block: list[str] = []
    size, is_long = 0, False
    for line in _lines(path):
        if line.startswith("$$$$"):
            yield block, is_long
            block, size, is_long = [], 0, False
            continue
        size += len(line)
        is_long = is_long or size > MAX_BLOCK
        block = [] if is_long else [*block, line] if len(block) < 4 else _grown(block, line)
    if any(line.strip() for line in block) or is_long:
        yield block, is_long


def _grown(block: list[str], line: str) -> list[str]:
    block.append(line)
    return block


def read_sdf(path: Path) -> Iterator[Row]:
    """One row per record: `smiles`, `sdf_name`, and the record's data items under their own names."""
    for number, (block, is_long) in enumerate(_blocks(path), start=1):
        yield number, RowFault("sdf", f"a record of more than {MAX_BLOCK} characters.") if is_long else _sdf_row(block)


def _sdf_row(block: list[str]) -> dict[str, Any] | RowFault:
    end = next((index for index, line in enumerate(block) if line.startswith("M  END")), None)
    if end is None or len(block) < 4:
        return RowFault("sdf", "the record has no 'M  END' line.")
    try:
        num_atoms = int(block[3][:3])
    except ValueError:
        return RowFault("sdf", "the counts line of the record is broken.")
    if num_atoms > 2 * MAX_ATOMS:
        return RowFault("sdf", f"{num_atoms} atoms, more than {2 * MAX_ATOMS}.")
    with quiet():
        mol = Chem.MolFromMolBlock("\n".join(block[: end + 1]) + "\n")
        smiles = Chem.MolToSmiles(mol) if mol is not None else ""
    if not smiles:
        return RowFault("sdf", "RDKit cannot read the record as a molecule.")
    row: dict[str, Any] = {"smiles": smiles, "sdf_name": block[0].strip()}
    name, values = "", []
    for line in [*block[end + 1 :], ""]:
        if line.startswith(">"):
            name, values = line[line.find("<") + 1 : line.rfind(">")].strip(), []
        elif name and line.strip():
            values.append(line.strip())
        elif name:
            row.setdefault(name, "\n".join(values))
            name = ""
    return row


def read_smi(path: Path) -> Iterator[Row]:
    """`SMILES name` lines, `#` comments; reaction SMILES are recognised by their `>`."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        text, *name = line.split(maxsplit=1)
        if text.casefold() in ("smiles", "canonical_smiles") and number == 1:
            continue
        key = "reaction_smiles" if path.name.lower().removesuffix(".gz").endswith(".rsmi") else "smiles"
        yield number, {key: text, "smi_name": name[0] if name else ""}


def read_rxn(path: Path) -> Iterator[Row]:
    """One row per reaction of an MDL RXN or RD file: `reaction_smiles`."""
    from rdkit.Chem import rdChemReactions

    block: list[str] = []
    number = 0
    for line in [*_lines(path), "$RXN"]:
        if line.startswith("$RXN") and block:
            number += 1
            text = "\n".join(block)
            with quiet():
                try:
                    reaction = rdChemReactions.ReactionFromRxnBlock(text) if len(text) <= MAX_BLOCK else None
                    written = rdChemReactions.ReactionToSmiles(reaction) if reaction is not None else ""
                except (ValueError, RuntimeError):
                    written = ""
            yield (
                number,
                {"reaction_smiles": written} if written else RowFault("rxn", "RDKit cannot read the record as a reaction."),
            )
            block = []
        if line.startswith("$RXN") or block:
            if line.startswith(("$DTYPE", "$DATUM", "$RFMT", "$RDFILE", "$DATM")):
                continue
            block.append(line)
    if not number:
        raise RowFault("file", "holds no $RXN record.")


def read_cif_file(path: Path) -> Iterator[Row]:
    """The file as one row: `cif`."""
    with open_checked(path) as handle:
        text = read_at_most(handle, MAX_BLOCK).decode("utf-8", errors="replace")
    yield 1, {"cif": text, "cif_name": path.name}


FORMATS = (
    FileFormat("sdf", (".sdf", ".sd", ".mol"), "SDF or MOL (.sdf, .sd, .mol)", read_sdf),
    FileFormat("smi", (".smi", ".smiles", ".rsmi"), "SMILES list (.smi, .rsmi)", read_smi),
    FileFormat("rxn", (".rxn", ".rdf"), "MDL reactions (.rxn, .rdf)", read_rxn),
    FileFormat("cif", (".cif",), "crystal (.cif)", read_cif_file),
)
