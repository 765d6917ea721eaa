"""Questions whose answer is a molecule made from another, or made to measure: add, delete, swap, compose, optimise."""

from __future__ import annotations

import random
from typing import Any

from factory.domains.chemistry.draw import draw_chain, draw_large, is_sound, key_of, split_of
from factory.domains.chemistry.formulas import formula_of, hill
from factory.domains.chemistry.groups import GROUPS, count_group, with_exchange, with_group, without_group
from factory.domains.chemistry.molecules import canonical_smiles, read_molecule, tanimoto
from factory.domains.chemistry.objectives import combined, objectives_of, spec_of
from factory.domains.chemistry.options import Options
from factory.domains.chemistry.properties import property_of, scaffold
from factory.domains.chemistry.questions import Question
from factory.domains.chemistry.questions_structure import draw

TERSE_GROUPS = ("hydroxyl", "amine", "chloro", "bromo", "fluoro")
FULL_GROUPS = (*TERSE_GROUPS, "thiol", "nitrile", "aldehyde", "carboxyl", "nitro", "amide", "benzene_ring")
GOALS = (
    ("logp", "up", 0.5),
    ("logp", "down", 0.5),
    ("solubility", "up", 0.5),
    ("tpsa", "up", 15.0),
    ("qed", "up", 0.05),
    ("sa", "down", 0.3),
)
"""(property, direction, change that earns everything)."""
PHRASES = {"logp": "logP", "solubility": "the solubility (logS)", "tpsa": "the polar surface area (TPSA)", "qed": "the drug-likeness (QED)",
           "sa": "the synthetic accessibility score (SA)"}  # fmt: skip


def _removal(text: str, name: str) -> str | None:
    """The text without one group, by cutting letters out: the copy that a reader makes. None where that is not one step."""
    mark = GROUPS[name].fragment
    wanted = without_group(canonical_smiles(text), name)
    for piece, at in ((f"({mark})", text.find(f"({mark})")), (mark, len(text) - len(mark) if text.endswith(mark) else -1)):
        if at >= 0:
            cut = text[:at] + text[at + len(piece) :]
            if cut and is_sound(cut) and canonical_smiles(cut) in wanted:
                return cut
    start = mark if text.startswith(mark) else "N#C" if name == "nitrile" and text.startswith("N#C") else ""
    cut = text[len(start) :] if start else ""
    return cut if cut and is_sound(cut) and canonical_smiles(cut) in wanted else None


def delete(rng: random.Random, options: Options, split: str) -> Question | None:
    """One group less."""
    text = draw(rng, options, split)
    mol = read_molecule(text)
    names = [name for name in _names(options) if count_group(mol, name)]
    if not names:
        return None
    name = rng.choice(names)
    answer = _removal(text, name) or next(iter(sorted(without_group(canonical_smiles(text), name))), None)
    if answer is None or (options.style == "terse" and _removal(text, name) is None) or not _changes(text, answer, name, -1):
        return None
    return _edit("delete", options, text, answer, remove=name)


def add(rng: random.Random, options: Options, split: str) -> Question | None:
    """One group more, in place of a hydrogen on carbon."""
    text = draw(rng, options, split)
    name = rng.choice(_names(options))
    wanted = with_group(canonical_smiles(text), name)
    appended = text + GROUPS[name].fragment
    answer = appended if is_sound(appended) and canonical_smiles(appended) in wanted else next(iter(sorted(wanted)), None)
    if answer is None or not _changes(text, answer, name, +1):
        return None
    return _edit("add", options, text, answer, add=name)


def swap(rng: random.Random, options: Options, split: str) -> Question | None:
    """One group exchanged for another."""
    text = draw(rng, options, split)
    mol = read_molecule(text)
    names = [name for name in _names(options) if count_group(mol, name) and GROUPS[name].cut]
    if not names:
        return None
    old = rng.choice(names)
    new = rng.choice([name for name in _names(options) if name != old])
    wanted = with_exchange(canonical_smiles(text), old, new)
    marks = (f"({GROUPS[old].fragment})", f"({GROUPS[new].fragment})"), (GROUPS[old].fragment, GROUPS[new].fragment)
    tries = [text.replace(before, after, 1) for before, after in marks if before in text]
    if text.endswith(GROUPS[old].fragment):
        tries.append(text[: -len(GROUPS[old].fragment)] + GROUPS[new].fragment)
    fitting = [one for one in tries if is_sound(one) and canonical_smiles(one) in wanted]
    answer = fitting[0] if fitting else None if options.style == "terse" else next(iter(sorted(wanted)), None)
    if answer is None or not _changes(text, answer, old, -1) or not _changes(text, answer, new, +1):
        return None
    return _edit("swap", options, text, answer, add=new, remove=old)


def _names(options: Options) -> tuple[str, ...]:
    return FULL_GROUPS if options.style == "full" else TERSE_GROUPS


def _changes(before: str, after: str, name: str, by: int) -> bool:
    return count_group(read_molecule(after), name) - count_group(read_molecule(before), name) == by


def _edit(task: str, options: Options, text: str, answer: str, add: str = "", remove: str = "") -> Question:
    reference: dict[str, Any] = {"start": text, **({"add": add} if add else {}), **({"remove": remove} if remove else {})}
    named = " ".join(name for name in (remove, add) if name)
    pieces = " ".join(GROUPS[name].fragment for name in (remove, add) if name)
    asked, thinking = f"{task} {named} {text}", f"{named} {pieces}"
    if options.style == "full":
        deed = {
            "add": f"adding one {add} group",
            "delete": f"removing one {remove} group",
            "swap": f"replacing one {remove} group by {add}",
        }[task].replace("_", " ")
        asked = f"Modify this molecule by {deed} and keep the rest as it is. Give the SMILES. {text}"
        thinking = f"I change one place only: {pieces.replace(' ', ' becomes ')} in {text}. This gives {answer}."
    return Question(task, asked, reference, answer, thinking, key_of(text), {"gold": answer})


def compose(rng: random.Random, options: Options, split: str) -> Question | None:
    """Any molecule of a formula; in the full style with a number of one functional group."""
    text = draw_chain(rng, 3, options.atoms) if options.style == "terse" else draw_large(rng)
    if not is_sound(text):
        return None
    mol = read_molecule(text)
    wanted = hill(*formula_of(mol))
    if split_of(wanted) != split:
        return None
    atoms = formula_of(mol)[0]
    unsaturations = (
        2 * atoms.get("C", 0) + 2 + atoms.get("N", 0) - atoms.get("H", 0) - sum(atoms.get(x, 0) for x in ("F", "Cl", "Br", "I"))
    ) // 2
    reference: dict[str, Any] = {"formula": wanted}
    asked = f"make {wanted}"
    thinking = " ".join([*(f"{element}{number}" for element, number in atoms.items() if element != "H"), str(unsaturations)])
    if options.style == "full":
        present = sorted(name for name in FULL_GROUPS if count_group(mol, name))
        if not present:
            return None
        name = rng.choice(present)
        reference["groups"] = {name: count_group(mol, name)}
        asked = f"Give the SMILES of a molecule with the formula {wanted} and exactly {reference['groups'][name]} {name.replace('_', ' ')} group(s)."
        thinking = f"The formula {wanted} has {unsaturations} rings and double bonds. {text} has the group and this formula."
    return Question("compose", asked, reference, text, thinking, wanted, {"gold": text})


def optimise(rng: random.Random, options: Options, split: str) -> Question | None:
    """A property moved by at least so much, with a bound on likeness; the answer is one group added or taken off."""
    text = draw(rng, options, split)
    name, direction, delta = rng.choice(GOALS[:2] if options.style == "terse" else GOALS)
    mol, smiles = read_molecule(text), key_of(text)
    similarity = 0.2 if options.style == "terse" else 0.4
    start = property_of(mol, name)
    for group in rng.sample(_names(options), len(_names(options))):
        appended = text + GROUPS[group].fragment
        pool = sorted(with_group(smiles, group) | (without_group(smiles, group) if GROUPS[group].cut else frozenset()))
        if is_sound(appended) and canonical_smiles(appended) in pool:
            pool.insert(0, appended)
        for candidate in pool:
            new = read_molecule(candidate)
            change = (property_of(new, name) - start) * (1 if direction == "up" else -1)
            if change >= delta and tanimoto(new, mol) >= similarity:
                reference = {"start": text, "property": name, "direction": direction, "delta": delta, "similarity": similarity}
                asked, thinking = f"{name} {direction} {text}", f"{group} {GROUPS[group].fragment}"
                if options.style == "full":
                    asked = (
                        f"Change this molecule so that {PHRASES[name]} goes {direction} by at least {delta:g}, with a Tanimoto likeness of at "
                        f"least {similarity:g} to it. Give the SMILES. {text}"
                    )
                    thinking = f"It is {start:.2f} now. One change of {group.replace('_', ' ')} gives {candidate}, which moves it by {change:.2f}."
                return Question("optimise", asked, reference, candidate, thinking, smiles, {"gold": candidate})
    return None


def design(rng: random.Random, options: Options, split: str) -> Question | None:
    """A molecule that contains a given ring and scores by several objectives as well as a drawn one does."""
    text = draw(rng, options, split)
    mol = read_molecule(text)
    frame = scaffold(mol)
    if not frame or frame == key_of(text) or "." in frame:
        return None
    reference = options.design_reference()
    recipe, weights, oracles, _ = spec_of(reference)
    reached = combined(objectives_of(mol, recipe, weights, oracles), weights)[0]
    if reached < 0.3:
        return None
    target = round(reached - 0.005, 2)
    key = f"{frame} {target}"
    if split_of(key) != split:
        return None
    reference |= {"target": target, "contains": frame}
    asked, thinking = f"design {target} {frame}", f"ring {read_molecule(frame).GetNumAtoms()}"
    if options.style == "full":
        named = ", ".join(name for name, weight in weights.items() if weight > 0)
        asked = (
            f"Design a molecule that contains {frame} and reaches {target} by the weighted mean of these objectives, each in [0, 1]: {named}. "
            "Give the SMILES."
        )
        thinking = f"{text} contains the ring system; together the objectives give {reached:.2f}."
    return Question("design", asked, reference, text, thinking, key, {"gold": text})


POSERS = {"design": design, "add": add, "delete": delete, "swap": swap, "compose": compose, "optimise": optimise}
