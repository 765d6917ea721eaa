"""Questions about one structure: counts, groups, formula, scaffold, sameness, names; each with its working."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any

from rdkit.Chem import Lipinski

from factory.domains.chemistry.draw import (
    RINGS,
    draw_large,
    draw_molecule,
    draw_ring,
    is_sound,
    key_of,
    mutated,
    names,
    random_writing,
    split_of,
    until,
)
from factory.domains.chemistry.formulas import formula_of, hill
from factory.domains.chemistry.groups import GROUPS, count_group, group_named
from factory.domains.chemistry.molecules import canonical_smiles, pattern, read_molecule
from factory.domains.chemistry.options import Options
from factory.domains.chemistry.properties import COUNTS, count_of, scaffold
from factory.domains.chemistry.questions import Question

COUNTED = ("C", "O", "N", "heavy atoms", "donors", "rings")
FULL_COUNTED = (*COUNTED, "double bonds", "aromatic rings", "acceptors", "rotors", "stereocentres")
PHRASES = {
    "heavy atoms": "heavy (non-hydrogen) atoms", "donors": "hydrogen-bond donors", "acceptors": "hydrogen-bond acceptors",
    "rotors": "rotatable bonds", "stereocentres": "stereocentres", "rings": "rings", "aromatic rings": "aromatic rings",
    "double bonds": "double bonds (in the Kekulé form)",
}  # fmt: skip
GROUPS_ASKED = ("hydroxyl", "amine", "halo", "methyl")
FULL_GROUPS = (
    "hydroxyl",
    "amine",
    "halo",
    "carboxyl",
    "ester",
    "amide",
    "nitrile",
    "benzene_ring",
    "ether",
    "ketone",
    "aldehyde",
)


def draw(rng: random.Random, options: Options, split: str) -> str:
    """A molecule of the style's size whose canonical SMILES belongs to the split."""

    def make() -> str:
        return draw_large(rng) if options.style == "full" else draw_molecule(rng, rings=options.rings, most=options.atoms)

    return until(make, lambda text: split_of(key_of(text)) == split)


def _draw_with(rng: random.Random, options: Options, split: str, fits: Callable[[Any], bool]) -> str:
    """A molecule with the wanted count if one turns up soon, else any: so that 0 is not the best guess."""
    text = draw(rng, options, split)
    for _ in range(12):
        if fits(read_molecule(text)):
            break
        text = draw(rng, options, split)
    return text


def running(mol: Any, marked: Collection[int]) -> str:
    """The heavy atoms in the order of the SMILES, each with how many marked ones there were so far: `C0O1C1`."""
    count, parts = 0, []
    for atom in mol.GetAtoms():
        count += atom.GetIdx() in marked
        parts.append(f"{atom.GetSymbol()}{count}")
    return "".join(parts)


def _marks(mol: Any, what: str) -> set[int] | None:
    """Atoms that a count counts; None where it counts something else than atoms."""
    if what in COUNTS:
        if what == "donors":
            return {match[0] for match in mol.GetSubstructMatches(Lipinski.HDonorSmarts)}
        return {atom.GetIdx() for atom in mol.GetAtoms()} if what == "heavy atoms" else None
    return {atom.GetIdx() for atom in mol.GetAtoms() if atom.GetSymbol() == what}


def drill(rng: random.Random, options: Options, split: str) -> str:
    """A molecule written twice, or with its heavy atoms numbered: what every other task begins with."""
    text = draw(rng, options, split)
    if rng.random() < 0.5:
        return f"copy {text}\n{text}"
    return f"atoms {text}\n{running(read_molecule(text), range(200))}"


def count(rng: random.Random, options: Options, split: str) -> Question | None:
    """How many atoms of an element, rings, donors, double bonds ..."""
    is_full = options.style == "full"
    what = rng.choice(FULL_COUNTED if is_full else COUNTED)
    wanted = rng.choice((0, 1, 1, 2, 2, 3)) if what not in ("C", "heavy atoms") else None
    text = _draw_with(rng, options, split, lambda mol: wanted in (None, count_of(mol, what)))
    mol = read_molecule(text)
    number = count_of(mol, what)
    marks = _marks(mol, what)
    asked = f"count {what} {text}"
    thinking = running(mol, marks) if marks is not None else f"{what} {number}"
    if is_full:
        noun = PHRASES.get(what, f"{what} atoms")
        asked = f"How many {noun} does this molecule have? {text}"
        thinking = f"Going through the atoms and counting {noun}: {thinking}. That makes {number}."
    return Question("count", asked, number, str(number), thinking, key_of(text), {"what": what})


def groups(rng: random.Random, options: Options, split: str) -> Question | None:
    """How often a functional group occurs."""
    is_full = options.style == "full"
    name = rng.choice(FULL_GROUPS if is_full else GROUPS_ASKED)
    wanted = rng.choice((0, 1, 1, 1, 2, 2, 3))
    text = _draw_with(rng, options, split, lambda mol: count_group(mol, name) == wanted)
    mol = read_molecule(text)
    number = count_group(mol, name)
    marks = {match[0] for match in mol.GetSubstructMatches(pattern(group_named(name).smarts))}
    thinking, asked = running(mol, marks), f"count {name} {text}"
    if len(marks) != number:
        return None
    if is_full:
        noun = name.replace("_", " ")
        asked = f"How many {noun} groups are in this molecule? {text}"
        thinking = f"I look for the {noun} group atom by atom, with the number found so far: {thinking}. That makes {number}."
    return Question("groups", asked, number, str(number), thinking, key_of(text), {"what": name})


def formula(rng: random.Random, options: Options, split: str) -> Question:
    """The molecular formula of a SMILES: heavy atoms with the hydrogens counted so far, then the sums."""
    text = draw(rng, options, split)
    mol = read_molecule(text)
    total, parts = 0, []
    for atom in mol.GetAtoms():
        total += atom.GetTotalNumHs()
        parts.append(f"{atom.GetSymbol()}{total}")
    answer, thinking, asked = hill(*formula_of(mol)), "".join(parts), f"formula {text}"
    if options.style == "full":
        asked = f"What is the molecular formula of this molecule? {text}"
        thinking = f"Heavy atoms, each with the hydrogens counted so far: {thinking}. Summed up by element: {answer}."
    return Question("formula", asked, answer, answer, thinking, key_of(text))


def murcko(rng: random.Random, options: Options, split: str) -> Question | None:
    """The Bemis-Murcko scaffold: rings and what links them."""
    text = draw(rng, options, split) if options.style == "full" else draw_ring(rng)
    if not is_sound(text) or split_of(key_of(text)) != split:
        return None
    mol = read_molecule(text)
    answer = scaffold(mol)
    if not answer or answer == canonical_smiles(text):
        return None
    if options.style == "full":
        thinking = f"Taking off every chain that ends without a ring leaves {answer}."
        return Question("scaffold", f"Give the Murcko scaffold of {text} as SMILES.", answer, answer, thinking, key_of(text))
    shown = next((ring for ring in RINGS if canonical_smiles(ring) == answer), answer)
    size = read_molecule(shown).GetNumAtoms()
    return Question("scaffold", f"scaffold {text}", answer, shown, f"ring {size}", key_of(text))


def same(rng: random.Random, options: Options, split: str) -> Question | None:
    """Whether two SMILES are one molecule: a random writing of it, or of a mutated one."""
    text = draw(rng, options, split)
    is_same = rng.random() < 0.5
    other = text if is_same else mutated(rng, text)
    if other is None:
        return None
    shown = random_writing(rng, other)
    if shown == text:
        return None
    left, right = (hill(*formula_of(read_molecule(one))) for one in (text, shown))
    answer = "yes" if is_same else "no"
    asked, thinking = f"same {text} {shown}", f"{left} {right}"
    if options.style == "full":
        asked = f"Are these two SMILES the same molecule? Answer yes or no. {text} and {shown}"
        forms = [canonical_smiles(one) for one in (text, shown)]
        thinking = f"Their formulas are {left} and {right}; written in one order they are {forms[0]} and {forms[1]}."
    return Question("same", asked, answer, answer, thinking, key_of(text))


def name(rng: random.Random, options: Options, split: str) -> Question:
    """The SMILES of a common name. Names cannot be derived: what a split holds must have been read elsewhere."""
    known = names()
    chosen = rng.choice(list(known))
    smiles = known[chosen]
    mol = read_molecule(smiles)
    asked, thinking = f"name {chosen}", hill(*formula_of(mol))
    if options.style == "full":
        asked = f"Write {chosen} as SMILES."
        thinking = f"{chosen} has the formula {thinking} and {count_of(mol, 'rings')} rings."
    return Question("name", asked, smiles, smiles, thinking, canonical_smiles(smiles))


POSERS = {"count": count, "groups": groups, "formula": formula, "scaffold": murcko, "same": same, "name": name}
assert set(GROUPS_ASKED) | set(FULL_GROUPS) <= set(GROUPS), "a group that cannot be counted"
