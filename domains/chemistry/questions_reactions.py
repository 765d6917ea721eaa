"""Questions about reactions: forward and one-step retro by template, routes of two steps, equations to balance."""

from __future__ import annotations

import random
from math import gcd

from factory.domains.chemistry.draw import draw_chain, draw_ring, is_sound, key_of, split_of
from factory.domains.chemistry.equations import EquationFault, balance
from factory.domains.chemistry.formulas import hill
from factory.domains.chemistry.groups import count_group
from factory.domains.chemistry.molecules import canonical_smiles, read_molecule
from factory.domains.chemistry.options import Options
from factory.domains.chemistry.questions import Question
from factory.domains.chemistry.reactions import TEMPLATES, explain, products_of

# Template -> (end of the first partner, start of the second, what stands between them in the product).
JOINTS = {
    "amide": ("C(=O)O", "N", "C(=O)N"),
    "ester": ("C(=O)O", "O", "C(=O)O"),
    "ether": ("CBr", "O", "CO"),
    "thioether": ("CBr", "S", "CS"),
    "alkylation": ("CBr", "N", "CN"),
}
"""Reactions of the terse style: text is cut off the first partner and the second is appended."""


def _partners(rng: random.Random, options: Options, split: str, template: str) -> tuple[str, str, str] | None:
    """(first, second, product) as written, with exactly one product by the template."""
    end, start, joint = JOINTS[template]
    most = 3 if options.style == "terse" else 6
    head = draw_chain(rng, 1, most) if rng.random() < 0.8 else draw_ring(rng)
    tail = draw_chain(rng, 1, most) if rng.random() < 0.8 else "C" + rng.choice(("c1ccccc1", "C1CC1", "c1ccncc1"))
    if head[-1] in "ONFSr)l" or tail[0] in "ONFSB" or tail.startswith("Cl") or "=O" in tail[:4]:
        return None
    first, second, product = head + end, start + tail, head + joint + tail
    if not all(is_sound(text) for text in (first, second, product)):
        return None
    if split_of(key_of(product)) != split:
        return None
    if count_group(read_molecule(first), "carboxyl") > 1 or count_group(read_molecule(second), "carboxyl"):
        return None
    made = products_of((first, second), template)
    return (first, second, product) if made == {canonical_smiles(product)} else None


def forward(rng: random.Random, options: Options, split: str) -> Question | None:
    """The product of two partners by a named reaction."""
    template = rng.choice(sorted(JOINTS))
    found = _partners(rng, options, split, template)
    if found is None:
        return None
    first, second, product = found
    joint = JOINTS[template][2]
    asked, thinking = f"{template} {first} {second}", f"{template} {joint}"
    if options.style == "full":
        rule = TEMPLATES[template]
        asked = f"What is the main product of this {rule.title} ({rule.conditions})? Give the SMILES. {first}.{second}"
        thinking = f"The {rule.title} joins the partners through {joint}; what leaves is dropped. This gives {product}."
    return Question(
        "forward",
        asked,
        canonical_smiles(product),
        product,
        thinking,
        canonical_smiles(product),
        {"rule": "largest", "template": template},
    )


def retro(rng: random.Random, options: Options, split: str) -> Question | None:
    """Two partners that a named reaction joins to the product."""
    template = rng.choice(sorted(JOINTS))
    found = _partners(rng, options, split, template)
    if found is None:
        return None
    first, second, product = found
    asked, thinking = f"retro {template} {product}", f"{template} {JOINTS[template][2]}"
    if options.style == "full":
        rule = TEMPLATES[template]
        asked = f"Which reactants give this product by {rule.title}? Give them as one SMILES with a dot between them. {product}"
        thinking = f"Cutting the bond that the {rule.title} makes gives {first} and {second}."
    reference = {"product": product, "template": template, "reactants": [first, second]}
    return Question(
        "retro", asked, reference, f"{first}.{second}", thinking, canonical_smiles(product), {"gold": f"{first}.{second}"}
    )


def route(rng: random.Random, options: Options, split: str) -> Question | None:
    """Two steps: a partner is made first (an acid from its ester, an amine from its nitro compound), then an amide."""
    found = _partners(rng, options, split, "amide")
    if found is None:
        return None
    acid, amine, product = found
    ester = f"{acid}C"
    if explain((ester,), acid, ["hydrolysis"]) is None or canonical_smiles(acid) == canonical_smiles(amine):
        return None
    steps = [f"{ester}>>{acid}", f"{acid}.{amine}>>{product}"]
    stock = [canonical_smiles(ester), canonical_smiles(amine)]
    asked, thinking = f"route {ester} {amine} to {product}", f"{acid}"
    if options.style == "full":
        asked = f"Plan a synthesis of {product} from {ester} and {amine}. Write one step per line, as reactants>>product in SMILES, without reagents."
        thinking = f"The amide is made last, from {acid} and {amine}. The acid comes from its methyl ester by hydrolysis."
    reference = {"target": product, "stock": stock, "max_steps": 4}
    return Question("route", asked, reference, "\n".join(steps), thinking, canonical_smiles(product), {"gold": "\n".join(steps)})


METALS = {
    "Li": 1,
    "Na": 1,
    "K": 1,
    "Rb": 1,
    "Cs": 1,
    "Ag": 1,
    "Mg": 2,
    "Ca": 2,
    "Sr": 2,
    "Ba": 2,
    "Zn": 2,
    "Ni": 2,
    "Cd": 2,
    "Al": 3,
    "Ga": 3,
    "Sc": 3,
    "Y": 3,
}
"""Metal -> charge of its ion."""
ANIONS = {"Cl": 1, "Br": 1, "I": 1, "F": 1, "NO3": 1, "ClO4": 1, "SO4": 2, "CO3": 2, "PO4": 3}
ELEMENTS = {
    "O2": ("O", 2, 2),
    "Cl2": ("Cl", 1, 2),
    "Br2": ("Br", 1, 2),
    "F2": ("F", 1, 2),
    "I2": ("I", 1, 2),
    "S": ("S", 2, 1),
    "N2": ("N", 3, 2),
}
"""Element -> (symbol, charge of its ion, atoms in it)."""


def salt(metal: str, plus: int, anion: str, minus: int) -> str:
    """Formula of the neutral salt of two ions: `Al2(SO4)3`."""
    times = plus * minus // gcd(plus, minus)
    num_metal, num_anion = times // plus, times // minus
    left = f"({metal})" if num_metal > 1 and metal == "NH4" else metal
    is_group = num_anion > 1 and sum(char.isupper() for char in anion) > 1
    return f"{left}{num_metal if num_metal > 1 else ''}{f'({anion})' if is_group else anion}{num_anion if num_anion > 1 else ''}"


def _combustion(rng: random.Random) -> tuple[list[str], list[str]]:
    carbon, oxygen = rng.randint(1, 9), rng.choice((0, 0, 1, 2, 3))
    hydrogen = 2 * rng.randint(1, carbon + 1)
    return [hill({"C": carbon, "H": hydrogen, **({"O": oxygen} if oxygen else {})}), "O2"], ["CO2", "H2O"]


def _synthesis(rng: random.Random) -> tuple[list[str], list[str]]:
    metal, element = rng.choice(sorted(METALS)), rng.choice(sorted(ELEMENTS))
    symbol, minus, _ = ELEMENTS[element]
    return [metal, element], [salt(metal, METALS[metal], symbol, minus)]


def _neutralisation(rng: random.Random) -> tuple[list[str], list[str]]:
    metal, anion = rng.choice(sorted(METALS)), rng.choice(sorted(ANIONS))
    acid = f"H{ANIONS[anion] if ANIONS[anion] > 1 else ''}{anion}"
    return [acid, salt(metal, METALS[metal], "OH", 1)], [salt(metal, METALS[metal], anion, ANIONS[anion]), "H2O"]


def _displacement(rng: random.Random) -> tuple[list[str], list[str]]:
    metal, anion = rng.choice(sorted(METALS)), rng.choice(sorted(ANIONS))
    acid = f"H{ANIONS[anion] if ANIONS[anion] > 1 else ''}{anion}"
    return [metal, acid], [salt(metal, METALS[metal], anion, ANIONS[anion]), "H2"]


def equation(rng: random.Random, options: Options, split: str) -> Question | None:
    """An equation without coefficients: combustion, a salt from its elements, neutralisation, a metal in an acid."""
    left, right = rng.choice((_combustion, _synthesis, _neutralisation, _displacement))(rng)
    key = f"{' '.join(sorted(left))} > {' '.join(sorted(right))}"
    if split_of(key) != split:
        return None
    try:
        whole = balance(left, right)
    except EquationFault:
        return None
    bare = f"{' + '.join(left)} -> {' + '.join(right)}"
    answer = str(whole)
    asked, thinking = f"balance {bare}", " ".join(map(str, whole.coefficients))
    if options.style == "full":
        asked = f"Balance this equation with the smallest whole numbers: {bare}"
        numbers = ", ".join(f"{number} {name}" for number, name in (*whole.left, *whole.right))
        thinking = f"Each element must occur equally often on both sides. That holds for {numbers}."
    return Question("balance", asked, bare, answer, thinking, key, {"gold": answer})


POSERS = {"forward": forward, "retro": retro, "route": route, "balance": equation}
