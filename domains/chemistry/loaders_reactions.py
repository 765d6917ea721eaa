"""Rows of reactions, reaction conditions, routes and crystals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.domains.chemistry.crystals import CifFault, read_cif
from factory.domains.chemistry.formulas import FormulaFault, hill, read_formula
from factory.domains.chemistry.loaders_molecules import clean, screened
from factory.domains.chemistry.loaders_settings import LoadOptions
from factory.domains.chemistry.molecules import fragments, read_molecule
from factory.domains.chemistry.reactions import split_reaction
from factory.packs.common_shapes import RowShape
from factory.packs.records import DOCUMENTS, SAMPLES, Record
from factory.rewards.sets import read_items

REACTION_COLUMNS = ("reaction_smiles", "rxn_smiles", "reaction", "rxn", "reactions", "ReactionSmiles", "canonical_rxn")
CONDITION_COLUMNS = ("conditions", "reagents", "condition")
MATERIAL_NUMBERS = {
    "e_form": "formation energy in eV per atom", "gap pbe": "band gap (PBE) in eV", "gap expt": "measured band gap in eV",
    "last phdos peak": "frequency of the last phonon DOS peak in 1/cm", "log10(K_VRH)": "log10 of the bulk modulus in GPa",
    "log10(G_VRH)": "log10 of the shear modulus in GPa", "n": "refractive index", "exfoliation_en": "exfoliation energy in meV per atom",
}  # fmt: skip
"""MatBench's column -> what is asked for."""
MATERIAL_CLASSES = {"is_metal": "a metal", "gfa": "a glass former"}
HULL = ("e_above_hull", "energy_above_hull", "ehull", "e_hull")


def reaction_records(text: str, column: str, row: Mapping[str, Any], settings: LoadOptions) -> Iterator[Record]:
    """Forward, retro and conditions questions of one reaction SMILES; the split goes by its main product."""
    try:
        reaction = split_reaction(text)
    except ValueError as err:
        raise RowFault(column, str(err)) from err
    reactants = [clean(one, column) for one in reaction.reactants]
    reagents = [clean(one, column) for one in reaction.reagents]
    products = [clean(one, column) for one in reaction.products]
    if not reactants or not products:
        raise RowFault(column, "a reaction needs reactants and a product.")
    main = clean(max(products, key=lambda one: fragments(read_molecule(one))[0].GetNumHeavyAtoms()), column)
    screened(settings, column, main)
    where, meta, left = f"product={main}", settings.extra_meta(), ".".join(reactants)
    number = optional_cell(row, "id")
    base = f"{number}:" if number is not None else None
    for task in settings.reactions:
        record = Record(SAMPLES, key=f"{base}{task}" if base else None, group=where, task=task, meta=dict(meta))
        if task == "forward":
            beside = f" with {'.'.join(reagents)}" if reagents else ""
            record.text, record.answer = f"What is the main product of this reaction{beside}? Give the SMILES. {left}", main
            record.meta["rule"] = "largest"
        elif task == "retro":
            record.text = f"Which reactants give this product in one step? Give them as one SMILES with dots. {main}"
            record.reference = {"product": main, "reactants": reactants}
            record.meta["gold"] = left
        else:
            wanted = _conditions(row, reagents)
            if not wanted:
                continue
            record.text = f"Name the reagents, catalysts and solvents for this reaction. {left}>>{main}"
            record.reference = wanted
        yield record
    numbers = [name for name in settings.target if optional_cell(row, name) is not None]
    for name in numbers:
        yield Record(
            SAMPLES, key=f"{base}{name}" if base else None, group=where, task="value", reference=_float(row, name),
            text=f"Give the value of {name} of this reaction as a number. {left}>>{'.'.join(products)}",
            meta={**meta, "tolerance": settings.tolerance},
        )  # fmt: skip
    yield Record(
        DOCUMENTS, key=f"{base}text" if base else None, group=where, text=f"{left}>{'.'.join(reagents)}>{'.'.join(products)}"
    )


def _conditions(row: Mapping[str, Any], reagents: list[str]) -> list[str]:
    value = optional_cell(row, *CONDITION_COLUMNS)
    if value is None:
        return reagents
    return [str(one) for one in value] if isinstance(value, list) else read_items(f", {value}")


def _reaction_row(row: Mapping[str, Any], settings: LoadOptions) -> Iterator[Record]:
    text = text_cell(row, *REACTION_COLUMNS)
    name = next(name for name in REACTION_COLUMNS if optional_cell(row, name) is not None)
    return reaction_records(text, name, row, settings)


def _conditions_row(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    """A reaction given by reactants and product, with its conditions."""
    left = ".".join(clean(one, "reactants") for one in text_cell(row, "reactants").split("."))
    right = clean(text_cell(row, "product", "products"), "product")
    screened(settings, "product", right)
    wanted = _conditions(row, [])
    if not wanted:
        raise RowFault("conditions", "names nothing.")
    return Record(SAMPLES, group=f"product={right}", task="conditions", reference=wanted, meta=settings.extra_meta(),
                  text=f"Name the reagents, catalysts and solvents for this reaction. {left}>>{right}")  # fmt: skip


def _route_row(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    """A target to be planned for, with what is in stock; a known route is only kept as an example."""
    target = clean(text_cell(row, "target"), "target")
    screened(settings, "target", target)
    stock = cell(row, "stock", "building_blocks")
    stock = stock if isinstance(stock, list) else str(stock).replace(";", ".").split(".")
    stock = [clean(str(one), "stock") for one in stock if str(one).strip()]
    meta = settings.extra_meta() | ({"gold": str(row["route"])} if row.get("route") else {})
    asked = (f"Plan a synthesis of {target}. In stock: {', '.join(stock)}. Write one step per line, as reactants>>product in SMILES, "
             "without reagents.")  # fmt: skip
    return Record(
        SAMPLES, group=f"product={target}", task="route", reference={"target": target, "stock": stock}, text=asked, meta=meta
    )


def _material_row(row: Mapping[str, Any], settings: LoadOptions) -> Iterator[Record]:
    """MatBench-shaped: a structure (CIF) or a composition, with energies, gaps or classes. The split goes by the formula."""
    written = optional_cell(row, "cif", "structure", "cif_string")
    if isinstance(written, str):
        try:
            crystal = read_cif(written)
        except CifFault as err:
            raise RowFault("cif", str(err)) from err
        shown, formula = crystal.description(), crystal.formula
    else:
        shown = text_cell(row, "composition", "formula", "pretty_formula")
        try:
            formula = hill(*read_formula(shown))
        except FormulaFault as err:
            raise RowFault("composition", str(err)) from err
    where, meta, number = f"formula={formula}", settings.extra_meta(), optional_cell(row, "id", "material_id", "mbid")
    base = f"{number}:" if number is not None else None

    def record(task: str, name: str, text: str) -> Record:
        return Record(
            SAMPLES, key=f"{base}{name}" if base else None, group=where, task=task, text=f"{text} {shown}", meta=dict(meta)
        )

    hull = next((name for name in HULL if optional_cell(row, name) is not None), None)
    if hull is not None or optional_cell(row, "stable", "is_stable") is not None:
        made = record("stability", "stable", "Is this crystal thermodynamically stable? Answer yes or no.")
        is_stable = (
            _float(row, hull) <= settings.stable_below if hull else _flag(row, "stable" if "stable" in row else "is_stable")
        )
        made.answer = "yes" if is_stable else "no"
        yield made
    for name, asked in {**MATERIAL_NUMBERS, **{one: f"value of {one}" for one in settings.target}}.items():
        if optional_cell(row, name) is not None:
            made = record("value", name, f"Give the {asked} of this material as a number.")
            made.reference, made.meta["tolerance"] = _float(row, name), settings.tolerance
            yield made
    for name, asked in MATERIAL_CLASSES.items():
        if optional_cell(row, name) is not None:
            made = record("same", name, f"Is this material {asked}? Answer yes or no.")
            made.answer = "yes" if _flag(row, name) else "no"
            yield made
    yield Record(DOCUMENTS, key=f"{base}text" if base else None, group=where, text=shown)


def _float(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError, OverflowError) as err:
        raise RowFault(name, f"{row[name]!r:.40} is no number.") from err


def _flag(row: Mapping[str, Any], name: str) -> bool:
    value = str(row[name]).strip().casefold()
    if value in ("1", "1.0", "true", "yes"):
        return True
    if value in ("0", "0.0", "false", "no"):
        return False
    raise RowFault(name, f"{row[name]!r:.40} is neither true nor false.")


GIVES = SAMPLES | DOCUMENTS
SHAPES = (
    RowShape("reaction", "reaction SMILES, perhaps with conditions; also .rxn and .rsmi", (REACTION_COLUMNS,), None, GIVES, _reaction_row),
    RowShape("conditions", "reactants, product and their conditions", (("reactants",), ("product", "products"), CONDITION_COLUMNS), None,
             SAMPLES, _conditions_row),
    RowShape("routes", "targets with their stock", (("target",), ("stock", "building_blocks")), None, SAMPLES, _route_row),
    RowShape("crystals", "MatBench-shaped: CIF with a label, or nothing", (("cif", "structure", "cif_string"),), None, GIVES, _material_row),
    RowShape("compositions", "MatBench-shaped: composition with a label",
             (("composition", "formula", "pretty_formula"), (*HULL, "stable", "is_stable", *MATERIAL_NUMBERS, *MATERIAL_CLASSES)), None, GIVES,
             _material_row),
)  # fmt: skip
