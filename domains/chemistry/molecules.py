"""SMILES text to an RDKit molecule, with guards that stand before RDKit: nothing else in the pack parses a model's text.

`MolFromSmiles` alone is not enough: it reads "CCO the answer" as ethanol (a name may follow), "" as an empty molecule, and
spends unbounded time on giant input. RDKit's log never reaches the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import lru_cache
from typing import Any

from rdkit import Chem, rdBase

MAX_CHARS = 1_000
MAX_ATOMS = 200
"""Most heavy atoms of a molecule in an answer or a row."""
MAX_DEPTH = 60
"""Most nested branches."""

_ALPHABET = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$:/\\.%*]+")
_ATOM = re.compile(r"\[[^\[\]]{0,24}\]|Br|Cl|[BCNOPSFIbcnops*]")
_LONG_NUMBER = re.compile(r"\d{4,}")
_LONG_BRACKET = re.compile(r"\[[^\]]{25,}")
SPECIAL = re.compile(r"\[(?:START|END)_(?:SMILES|I_SMILES|MOL)\]|</?(?:SMILES|smiles|mol)>|<\|(?:start|end)_of_smiles\|>")
"""Marks that models put around SMILES; scores differed between harnesses until they were removed."""


class Fault(StrEnum):
    """Why a text is no usable molecule. The value is the reason that users read."""

    empty = "empty"
    prose = "more than one word: a SMILES has no blanks"
    alphabet = "characters that no SMILES has"
    too_long = f"more than {MAX_CHARS} characters"
    too_large = f"more than {MAX_ATOMS} heavy atoms"
    too_deep = "too many nested branches or too long a number"
    wildcard = "a wildcard atom (*), which stands for any"
    invalid = "RDKit cannot read it as a molecule"
    fragments = "more than one fragment"


class MoleculeFault(ValueError):
    """A text that is no usable molecule."""

    def __init__(self, fault: Fault, text: str) -> None:
        shown = text if len(text) <= 60 else text[:57] + "..."
        super().__init__(f"{fault.value}: {shown!r}")
        self.fault = fault


@contextmanager
def quiet() -> Iterator[None]:
    """Silence RDKit's log inside the block."""
    block = rdBase.BlockLogs()
    try:
        yield
    finally:
        del block


def check_text(text: str, *, allow_wildcard: bool = False) -> str:
    """The text of one SMILES, without marks around it; linear in its length.

    Raises:
        MoleculeFault: empty, prose, other characters, too long, too deep, too many atoms, or a wildcard.
    """
    if len(text) > 20 * MAX_CHARS:
        raise MoleculeFault(Fault.too_long, text)
    text = SPECIAL.sub(" ", text).strip().strip("`").strip()
    if not text:
        raise MoleculeFault(Fault.empty, text)
    if len(text) > MAX_CHARS:
        raise MoleculeFault(Fault.too_long, text)
    if len(text.split()) > 1:
        raise MoleculeFault(Fault.prose, text)
    if not _ALPHABET.fullmatch(text):
        raise MoleculeFault(Fault.alphabet, text)
    if _depth(text) > MAX_DEPTH or _LONG_NUMBER.search(text) or _LONG_BRACKET.search(text):
        raise MoleculeFault(Fault.too_deep, text)
    atoms = _ATOM.findall(text)
    if len(atoms) > 2 * MAX_ATOMS:  # explicit [H] are counted here, so twice the bound; heavy atoms are counted after parsing
        raise MoleculeFault(Fault.too_large, text)
    if "*" in text and not allow_wildcard:
        raise MoleculeFault(Fault.wildcard, text)
    return text


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    return deepest


def read_molecule(text: str, *, allow_wildcard: bool = False, max_fragments: int | None = None) -> Any:
    """The molecule of one SMILES, sanitised. Do not change it: it is shared.

    Args:
        allow_wildcard: take `*` (polymer ends, R groups).
        max_fragments: most parts between dots; None for any number.

    Raises:
        MoleculeFault: see `Fault`.
    """
    mol = _parsed(check_text(text, allow_wildcard=allow_wildcard))
    if isinstance(mol, Fault):
        raise MoleculeFault(mol, text)
    if max_fragments is not None and len(Chem.GetMolFrags(mol)) > max_fragments:
        raise MoleculeFault(Fault.fragments, text)
    return mol


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    params = Chem.SmilesParserParams()
    params.parseName = False
    params.allowCXSMILES = False
    with quiet():
        try:
            mol = Chem.MolFromSmiles(text, params)
        except Exception:  # RDKit raises RuntimeError, ValueError and its own for broken text
            mol = None
    if mol is None:
        return Fault.invalid
    if mol.GetNumAtoms() == 0:
        return Fault.empty
    if mol.GetNumHeavyAtoms() > MAX_ATOMS:
        return Fault.too_large
    return mol


def is_molecule(text: str) -> bool:
    """Whether the text is one usable molecule."""
    try:
        read_molecule(text)
    except MoleculeFault:
        return False
    return True


def canonical(mol: Any, *, is_isomeric: bool = True) -> str:
    """Canonical SMILES without atom maps, canonicalised again until it no longer changes (one pass is not always stable)."""
    with quiet():
        mol = Chem.Mol(mol)
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
        text = Chem.MolToSmiles(mol, isomericSmiles=is_isomeric)
        for _ in range(3):
            again = Chem.MolFromSmiles(text)
            new = Chem.MolToSmiles(again, isomericSmiles=is_isomeric) if again is not None else text
            if new == text:
                break
            text = new
    return text


@lru_cache(maxsize=16_384)
def canonical_smiles(text: str) -> str:
    """Canonical isomeric SMILES of a text. Raises MoleculeFault."""
    return canonical(read_molecule(text))


def fragments(mol: Any) -> list[Any]:
    """The parts between dots, each a molecule, the one with most heavy atoms first (of equal ones the heavier, then by SMILES)."""
    from rdkit.Chem.Descriptors import MolWt

    with quiet():
        parts = list(Chem.GetMolFrags(mol, asMols=True))
    return sorted(parts, key=lambda part: (-part.GetNumHeavyAtoms(), -MolWt(part), canonical(part)))


@lru_cache(maxsize=1024)
def pattern(smarts: str) -> Any:
    """A SMARTS query. Raises ValueError when it is none."""
    with quiet():
        query = Chem.MolFromSmarts(smarts) if len(smarts) <= MAX_CHARS else None
    if query is None:
        raise ValueError(f"{smarts[:80]!r} is no SMARTS")
    return query


@lru_cache(maxsize=1)
def _morgan() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


def morgan(mol: Any) -> Any:
    """Morgan fingerprint, radius 2, 2048 bits."""
    with quiet():
        return _morgan().GetFingerprint(mol)


def tanimoto(a: Any, b: Any, kind: str = "morgan") -> float:
    """Tanimoto likeness of two molecules in [0, 1]; `kind` is `morgan` (radius 2), `maccs` or `rdk`."""
    from rdkit import DataStructs
    from rdkit.Chem import MACCSkeys

    make = {"morgan": morgan, "maccs": MACCSkeys.GenMACCSKeys, "rdk": Chem.RDKFingerprint}[kind]
    with quiet():
        return float(DataStructs.TanimotoSimilarity(make(a), make(b)))
