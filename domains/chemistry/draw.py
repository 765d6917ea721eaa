"""Small molecules written as SMILES from a grammar: valid by construction, and short enough to be read letter by letter.

A molecule is a chain of units (`C`, `C(O)`, `C(=O)`, a ring ...) between two ends; no two heteroatoms touch. `draw_large` joins rings
and chains for models that can read more. The split of a molecule follows from its canonical SMILES, so that no writing of a test
molecule occurs in training.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from rdkit import Chem

from factory.domains.chemistry.molecules import canonical_smiles, quiet, read_molecule

T = TypeVar("T")

STARTS = (("C", 6), ("O", 2), ("N", 2), ("F", 1), ("Cl", 1), ("Br", 1), ("S", 1), ("N#C", 1), ("O=C", 1), ("OC(=O)", 2))
"""First unit and its weight."""
MIDDLES = (
    ("C", 8), ("C(C)", 3), ("C(O)", 3), ("C(N)", 2), ("C(F)", 1), ("C(Cl)", 1), ("C(Br)", 1), ("C(=O)", 2), ("O", 2), ("N", 2),
    ("C=C", 1),
)  # fmt: skip
ENDS = (
    ("C", 6), ("O", 2), ("N", 2), ("F", 1), ("Cl", 1), ("Br", 1), ("S", 1), ("C#N", 1), ("C=O", 1), ("C(=O)O", 2), ("C(=O)N", 1),
)  # fmt: skip
RINGS = (
    "c1ccccc1", "C1CCCCC1", "C1CCCC1", "C1CC1", "c1ccncc1", "c1ccoc1", "c1ccsc1", "C1CCNCC1", "C1CCOC1", "C1CCC1", "C1COCCN1",
    "c1cncnc1",
)  # fmt: skip
LARGE_RINGS = (*RINGS, "c1ccc2ccccc2c1", "c1ccc2[nH]ccc2c1", "c1ccc2ncccc2c1", "C1CNCCN1", "c1c[nH]cn1", "c1cscn1")
HETERO = ("O", "N", "F", "Cl", "Br", "S")
_TRIES = 400


def split_of(key: str) -> str:
    """The split of whatever has this key: a tenth each for test and validation. Deterministic."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return ("test", "validation")[place] if place < 2 else "train"


def until(make: Callable[[], T | None], fits: Callable[[T], bool]) -> T:
    """Draw until one fits. Raises RuntimeError after 400 draws: the grammar is at fault."""
    for _ in range(_TRIES):
        drawn = make()
        if drawn is not None and fits(drawn):
            return drawn
    raise RuntimeError(f"nothing fits after {_TRIES} draws")


def _pick(rng: random.Random, table: tuple[tuple[str, int], ...]) -> str:
    return rng.choices([unit for unit, _ in table], [weight for _, weight in table])[0]


def draw_chain(rng: random.Random, fewest: int = 2, most: int = 7) -> str:
    """An open chain with `fewest` to `most` heavy atoms, perhaps branched."""
    size = rng.randint(fewest, most)
    text = _pick(rng, STARTS)
    while heavy(text) < size:
        left = size - heavy(text)
        table = ENDS if left <= 3 and rng.random() < 0.5 else MIDDLES
        unit = _pick(rng, table)
        if heavy(unit) > left or not _joins(text, unit):
            unit = "C" if _joins(text, "C") else ""
        if not unit:
            break
        text += unit
        if table is ENDS and unit in ("F", "Cl", "Br", "S", "C#N", "C=O", "C(=O)N", "C(=O)O"):
            break
    return re.sub(r"\((=?[A-Z][a-z]?)\)$", r"\1", text)


def _joins(text: str, unit: str) -> bool:
    """Whether a unit may follow: no two heteroatoms side by side, no acyl halide, nothing after a halogen or a closed end."""
    if text in ("F", "Cl", "Br", "S", "O", "N") or text.endswith(("O", "N")):
        is_open = unit.startswith("C") and unit not in ("C#N", "C=O") and not (unit.startswith("C(") and unit[2] in "ONFB")
        return is_open and unit[:4] not in ("C(Cl",)
    if text.endswith(("C(=O)", "O=C")):
        return unit in ("C", "N", "O", "C(C)")
    if text.endswith("N#C"):
        return unit.startswith("C") and unit not in ("C#N", "C=O")
    return not text.endswith(("F", "Cl", "Br", "S"))


@lru_cache(maxsize=4096)
def heavy(text: str) -> int:
    """Capital letters and aromatic atoms of a piece of SMILES: its heavy atoms."""
    plain = text.replace("Cl", "X").replace("Br", "X").replace("[nH]", "n")
    return sum(char in "CONFSXcnos" for char in plain)


def draw_ring(rng: random.Random, rings: tuple[str, ...] = RINGS) -> str:
    """A ring with a side chain or two, written so that the ring comes last or in the middle."""
    ring = rng.choice(rings)
    left = rng.choice(
        ("C", "CC", "O", "N", "F", "Cl", "Br", "CO", "CN", "OC", "CC(C)", "C(=O)", "CCO", "NC", "ClC", "N#C", "OC(=O)")
    )
    body = ring
    if rng.random() < 0.5 and "cc" in ring:
        at = ring.index("cc") + 1
        body = (
            ring[:at] + "(" + rng.choice(("C", "O", "N", "F", "Cl", "Br", "OC", "CO")) + ")" + ring[at:]
            if _frees(ring, at)
            else ring
        )
    return left + body


def _frees(ring: str, at: int) -> bool:
    """Whether the atom before position `at` is a plain aromatic carbon that can carry a substituent."""
    return ring[at - 1] == "c" and not ring[at : at + 1].isdigit()


def draw_molecule(rng: random.Random, *, rings: float = 0.25, most: int = 7) -> str:
    """A chain, or with probability `rings` a substituted ring; always one that RDKit reads."""
    return until(lambda: draw_ring(rng) if rng.random() < rings else draw_chain(rng, 3, most), is_sound)


def draw_large(rng: random.Random) -> str:
    """Two rings and a linker with substituents, or a named molecule: 8 to 25 heavy atoms."""

    def make() -> str:
        if rng.random() < 0.25:
            return rng.choice(list(names().values()))
        linker = rng.choice(("C", "O", "N", "CC", "C(=O)N", "C(=O)", "OC", "CN", "C(=O)O", ""))
        first, second = draw_ring(rng, LARGE_RINGS), rng.choice(LARGE_RINGS)
        return (
            first[:-1] + f"{linker}{second.replace('1', '5').replace('2', '6')}"
            if not first.endswith("1")
            else _joined(first, linker, second)
        )

    return until(make, lambda text: is_sound(text) and 8 <= read_molecule(text).GetNumHeavyAtoms() <= 25)


def _joined(first: str, linker: str, second: str) -> str:
    """Put `linker` and the second ring, with other ring numbers, on the last atom but one of the first."""
    fresh = second.replace("2", "6").replace("1", "5")
    at = first.rindex("c1") if first.endswith("c1") else len(first) - 2
    return (
        f"{first[:at]}{first[at]}({linker}{fresh})" + first[at:] if linker else f"{first[:at]}{first[at]}({fresh})" + first[at:]
    )


@lru_cache(maxsize=65_536)
def is_sound(text: str) -> bool:
    """Whether RDKit reads the text as one fragment."""
    with quiet():
        return "." not in text and Chem.MolFromSmiles(text) is not None


@lru_cache(maxsize=65_536)
def key_of(text: str) -> str:
    """Canonical SMILES of a sound text in one pass: what its split follows from."""
    with quiet():
        return Chem.MolToSmiles(Chem.MolFromSmiles(text))


def random_writing(rng: random.Random, text: str) -> str:
    """The same molecule from another starting atom and branch order."""
    mol = read_molecule(text)
    order = list(range(mol.GetNumAtoms()))
    rng.shuffle(order)
    with quiet():
        return Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)


def mutated(rng: random.Random, text: str) -> str | None:
    """A different molecule with the same length of text: two letters exchanged, or one replaced. None when no try succeeds."""
    for _ in range(20):
        letters = list(text)
        at = rng.randrange(len(letters))
        letters[at] = {"C": rng.choice("ON"), "O": rng.choice("CN"), "N": rng.choice("CO"), "c": "n", "n": "c"}.get(
            letters[at], letters[at]
        )
        if rng.random() < 0.5:
            other = rng.randrange(len(letters))
            letters[at], letters[other] = letters[other], letters[at]
        new = "".join(letters)
        if new != text and is_sound(new) and canonical_smiles(new) != canonical_smiles(text):
            return new
    return None


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Common name -> SMILES: 240 molecules written by hand."""
    lines = (Path(__file__).parent / "names.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if line.strip())
