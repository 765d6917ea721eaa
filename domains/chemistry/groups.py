"""Functional groups: how to count them, and how to put one on, take one off or exchange one.

Counts are numbers of distinct SMARTS matches. The names are those of TOMG-Bench and ChemCoTBench, and the plain ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from rdkit import Chem

from factory.domains.chemistry.molecules import canonical, pattern, quiet


@dataclass(frozen=True, slots=True)
class Group:
    """One functional group."""

    name: str
    smarts: str
    """Counted by its distinct matches."""
    fragment: str = ""
    """SMILES that replaces a hydrogen on carbon when the group is added, first atom attached; empty: cannot be added."""
    cut: str = ""
    """Reaction SMARTS that takes one off, `[#6:1]...>>[#6:1]`; empty: cannot be taken off by rule."""

    @property
    def size(self) -> int:
        """Heavy atoms of the fragment."""
        return Chem.MolFromSmiles(self.fragment).GetNumHeavyAtoms() if self.fragment else 0


_AMINE = "[NX3;H2,H1;!$(N[#6]=[O,S,N]);!$(N[#7,#8,#16])]"
_LIST = (
    Group("hydroxyl", "[OX2H;!$(O[#6]=O);$(O[#6])]", "O", "[#6:1]-[OX2H;!$(O[#6]=O)]>>[#6:1]"),
    Group("amine", _AMINE, "N", "[#6:1]-[NX3;H2;!$(N[#6]=[O,S,N])]>>[#6:1]"),
    Group("halo", "[F,Cl,Br,I;$(*[#6])]", "Cl", "[#6:1]-[F,Cl,Br,I]>>[#6:1]"),
    Group("fluoro", "[F;$(F[#6])]", "F", "[#6:1]-[F]>>[#6:1]"),
    Group("chloro", "[Cl;$(Cl[#6])]", "Cl", "[#6:1]-[Cl]>>[#6:1]"),
    Group("bromo", "[Br;$(Br[#6])]", "Br", "[#6:1]-[Br]>>[#6:1]"),
    Group("thiol", "[SX2H;$(S[#6])]", "S", "[#6:1]-[SX2H]>>[#6:1]"),
    Group("nitrile", "[CX2;$(C[#6])]#[NX1]", "C#N", "[#6:1]-[CX2]#[NX1]>>[#6:1]"),
    Group("aldehyde", "[CX3H1;$(C[#6])]=[OX1]", "C=O", "[#6:1]-[CX3H1]=[OX1]>>[#6:1]"),
    Group("carboxyl", "[CX3](=[OX1])[OX2H1,OX1-]", "C(=O)O", "[#6:1]-[CX3](=[OX1])[OX2H1]>>[#6:1]"),
    Group("amide", "[CX3;$(C[#6]),H1](=[OX1])[NX3]", "C(=O)N", "[#6:1]-[CX3](=[OX1])[NX3;H2]>>[#6:1]"),
    Group("nitro", "[NX3+](=[OX1])[OX1-]", "[N+](=O)[O-]", "[#6:1]-[NX3+](=[OX1])[OX1-]>>[#6:1]"),
    Group("benzene_ring", "c1ccccc1", "c1ccccc1", "[#6:1]-[c]1[cH][cH][cH][cH][cH]1>>[#6:1]"),
    Group("methyl", "[CX4H3]", "C", "[#6:1]-[CX4H3]>>[#6:1]"),
    Group("methoxy", "[OX2]([#6])[CX4H3]", "OC", "[#6:1]-[OX2][CX4H3]>>[#6:1]"),
    Group("ketone", "[#6][CX3](=[OX1])[#6]", "C(C)=O"),
    Group("ester", "[CX3;$(C[#6]),H1](=[OX1])[OX2H0][#6;!$(C=O)]", "C(=O)OC"),
    Group("ether", "[OX2;!$(O[#6]=[O,S,N])]([#6])[#6]", "OC"),
    Group("anhydride", "[CX3](=[OX1])[OX2][CX3](=[OX1])"),
    Group("thioether", "[SX2H0]([#6])[#6]", "SC"),
    Group("sulfide", "[SX2H0;!$(S[#16])]([#6])[#6]", "SC"),
    Group("disulfide", "[SX2H0][SX2H0]"),
    Group("sulfoxide", "[$([SX3](=[OX1])([#6])[#6]),$([SX3+]([OX1-])([#6])[#6])]"),
    Group("sulfone", "[SX4](=[OX1])(=[OX1])([#6])[#6]"),
    Group("sulfonamide", "[SX4](=[OX1])(=[OX1])[NX3]"),
    Group("borane", "[BX3]"),
    Group("phenol", "[OX2H]c"),
    Group("alkene", "[CX3;!$(C=[!#6])]=[CX3;!$(C=[!#6])]"),
    Group("alkyne", "[CX2]#[CX2]"),
    Group("imine", "[CX3]=[NX2;!$(N[#7,#8])]"),
    Group("epoxide", "C1OC1"),
    Group("isocyanate", "N=C=O"),
    Group("phosphate", "P(=O)(O)(O)O"),
)
GROUPS = {group.name: group for group in _LIST}
ALIASES = {
    "alcohol": "hydroxyl", "carboxylic acid": "carboxyl", "carboxylic_acid": "carboxyl", "acid": "carboxyl", "halogen": "halo",
    "halide": "halo", "cyano": "nitrile", "cyanide": "nitrile", "benzene": "benzene_ring", "benzene ring": "benzene_ring",
    "phenyl": "benzene_ring", "carbonyl": "ketone", "mercapto": "thiol",
}  # fmt: skip
"""Other names -> name."""


def group_named(name: str) -> Group:
    """The group of this name or alias. Raises KeyError with the known names."""
    key = " ".join(str(name).casefold().replace("-", " ").split())
    for word in (key, key.removesuffix("s")):
        for one in (word, word.replace(" ", "_"), ALIASES.get(word, ""), ALIASES.get(word.replace(" ", "_"), "")):
            if one in GROUPS:
                return GROUPS[one]
    raise KeyError(f"there is no functional group {name!r}. Known: {', '.join(GROUPS)}")


def count_smarts(mol: Any, smarts: str) -> int:
    """Distinct matches of a SMARTS. Raises ValueError when it is none."""
    return len(mol.GetSubstructMatches(pattern(smarts), uniquify=True, maxMatches=2000))


def count_group(mol: Any, name: str) -> int:
    """How often the group occurs. Raises KeyError for an unknown name."""
    return count_smarts(mol, group_named(name).smarts)


def groups_of(mol: Any) -> set[str]:
    """Names of all groups that occur."""
    return {name for name, group in GROUPS.items() if count_smarts(mol, group.smarts)}


@cache
def _reaction(smarts: str) -> Any:
    from rdkit.Chem import rdChemReactions

    with quiet():
        reaction = rdChemReactions.ReactionFromSmarts(smarts)
        reaction.Initialize()
    return reaction


def _products(smarts: str, mol: Any) -> frozenset[str]:
    found = set()
    with quiet():
        for (product,) in _reaction(smarts).RunReactants((mol,), 200):
            try:
                Chem.SanitizeMol(product)
            except ValueError:  # a valence that cannot be
                continue
            text = Chem.MolToSmiles(product)
            if "." not in text:
                found.add(canonical(Chem.MolFromSmiles(text)))
    return frozenset(found)


@lru_cache(maxsize=4096)
def with_group(smiles: str, name: str) -> frozenset[str]:
    """Canonical SMILES of every molecule that has the group in place of one hydrogen on carbon. Raises KeyError, ValueError."""
    group = group_named(name)
    if not group.fragment:
        raise ValueError(f"the group {group.name} cannot be added by rule")
    return _products(f"[#6;!H0:1]>>[#6:1]{group.fragment}", Chem.MolFromSmiles(smiles))


@lru_cache(maxsize=4096)
def without_group(smiles: str, name: str) -> frozenset[str]:
    """Canonical SMILES of every molecule that lacks one of these groups (hydrogen in its place). Raises KeyError, ValueError."""
    group = group_named(name)
    if not group.cut:
        raise ValueError(f"the group {group.name} cannot be removed by rule")
    return _products(group.cut, Chem.MolFromSmiles(smiles))


@lru_cache(maxsize=4096)
def with_exchange(smiles: str, old: str, new: str) -> frozenset[str]:
    """Canonical SMILES of every molecule in which one `old` group is a `new` one. Raises KeyError, ValueError."""
    out, into = group_named(old), group_named(new)
    if not out.cut or not into.fragment:
        raise ValueError(f"{out.name} cannot be exchanged for {into.name} by rule")
    return _products(f"{out.cut}{into.fragment}", Chem.MolFromSmiles(smiles))
