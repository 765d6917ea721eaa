"""When two molecules are the same: five named levels, because they disagree.

2-hydroxypyridine and 2-pyridone are different SMILES, the same tautomer class, and the same InChIKey; an acid and its
carboxylate differ in all but `parent`; L- and D-alanine differ in `exact_isomeric`, not in `no_stereo`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rdkit import Chem

from factory.domains.chemistry.molecules import MoleculeFault, canonical, quiet, read_molecule

LEVELS = ("exact_isomeric", "no_stereo", "tautomer", "parent", "inchikey_block1")
DEFAULT_LEVEL = "exact_isomeric"
MAX_TAUTOMER_ATOMS = 60
"""Tautomers are enumerated up to this size; larger molecules are compared as they are."""


@lru_cache(maxsize=8192)
def identity(text: str, level: str = DEFAULT_LEVEL) -> str:
    """What two SMILES have in common exactly when they are the same molecule at this level.

    Raises:
        MoleculeFault: the text is no usable molecule.
        KeyError: unknown level.
    """
    return _IDENTITIES[level](read_molecule(text))


def is_same(a: str, b: str, level: str = DEFAULT_LEVEL) -> bool:
    """Whether two SMILES are one molecule at this level. Raises as `identity`."""
    return identity(a, level) == identity(b, level)


def _tautomer(mol: Any) -> str:
    if mol.GetNumHeavyAtoms() > MAX_TAUTOMER_ATOMS:
        return canonical(mol)
    from rdkit.Chem.MolStandardize import rdMolStandardize

    with quiet():
        enumerator = rdMolStandardize.TautomerEnumerator()
        enumerator.SetMaxTautomers(200)
        enumerator.SetMaxTransforms(400)
        return canonical(enumerator.Canonicalize(mol))


def _parent(mol: Any) -> str:
    """Largest organic fragment, neutralised where that is possible."""
    from rdkit.Chem.MolStandardize import rdMolStandardize

    with quiet():
        return canonical(rdMolStandardize.ChargeParent(mol))


def inchikey(mol: Any) -> str:
    """InChIKey, or an empty text when InChI cannot name the molecule."""
    with quiet():
        return Chem.MolToInchiKey(mol) or ""


def _block1(mol: Any) -> str:
    return inchikey(mol).partition("-")[0] or canonical(mol, is_isomeric=False)


_IDENTITIES = {
    "exact_isomeric": canonical,
    "no_stereo": lambda mol: canonical(mol, is_isomeric=False),
    "tautomer": _tautomer,
    "parent": _parent,
    "inchikey_block1": _block1,
}

__all__ = ["DEFAULT_LEVEL", "LEVELS", "MoleculeFault", "identity", "inchikey", "is_same"]
