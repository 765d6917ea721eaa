"""Reaction templates that run both ways, for forward reactions, one-step retrosynthesis and the check of routes.

A template is a teaching rule on drawn structures: it knows nothing of conditions, selectivity or yield.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import permutations
from typing import Any

from rdkit import Chem

from factory.domains.chemistry.molecules import MoleculeFault, canonical, canonical_smiles, quiet, read_molecule
from factory.errors import ConfigError, near_miss

MAX_REACTANTS = 4
MAX_OUTCOMES = 64


@dataclass(frozen=True, slots=True)
class Template:
    """One reaction: forward SMARTS on its reactants in order, and the reverse of it on the product."""

    name: str
    title: str
    forward: str
    retro: str
    num_reactants: int
    conditions: str
    """A usual choice, for wording only."""


_N = "[NX3;H2,H1;!$(N[#6]=[O,S,N]);!$(N[#7,#8,#16]);!$(Nc):{0}]"
TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "amide", "amide coupling", f"[CX3:1](=[OX1:2])[OX2H1].{_N.format(3)}>>[C:1](=[O:2])[N:3]",
            "[CX3;$(C[#6]):1](=[OX1:2])[NX3;!$(N(C=O)C=O);!$(N[#7,#8,#16]):3]>>[C:1](=[O:2])[OH].[N:3]", 2, "HATU, DIPEA, DMF",
        ),
        Template(
            "ester", "esterification", "[CX3:1](=[OX1:2])[OX2H1].[OX2H1;$(O[CX4]):3]>>[C:1](=[O:2])[O:3]",
            "[CX3;$(C[#6]):1](=[OX1:2])[OX2H0;$(O[CX4]):3]>>[C:1](=[O:2])[OH].[OH:3]", 2, "H2SO4, heat",
        ),
        Template(
            "suzuki", "Suzuki coupling", "[c:1][Br,I].[c:2]B(O)O>>[c:1][c:2]", "[c:1]!@[c:2]>>[c:1]Br.[c:2]B(O)O", 2,
            "Pd(PPh3)4, K2CO3, dioxane and water",
        ),
        Template(
            "ether", "Williamson ether synthesis", "[CX4;H3,H2:1][Br,I].[OX2H1;!$(O[#6]=[O,S,N]);$(O[#6]):2]>>[C:1][O:2]",
            "[CX4;H3,H2:1]!@[OX2H0;!$(O[#6]=[O,S,N]):2]>>[C:1]Br.[OH:2]", 2, "NaH, DMF",
        ),
        Template(
            "thioether", "thiol alkylation", "[CX4;H3,H2:1][Br,I].[SX2H1;$(S[#6]):2]>>[C:1][S:2]",
            "[CX4;H3,H2:1]!@[SX2H0:2]>>[C:1]Br.[SH:2]", 2, "K2CO3, acetonitrile",
        ),
        Template(
            "alkylation", "amine alkylation (SN2)", f"[CX4;H3,H2:1][Br,I].{_N.format(2)}>>[C:1][N:2]",
            "[CX4;H3,H2:1]!@[NX3;!$(N[#6]=[O,S,N]);!$(N[#7,#8,#16]);!$(Nc):2]>>[C:1]Br.[N:2]", 2, "K2CO3, acetonitrile",
        ),
        Template(
            "reductive_amination", "reductive amination",
            f"[CX3;H1;$(C[#6]):1]=[OX1].{_N.format(2)}>>[CH2:1][N:2]",
            "[CX4;H2;$(C[#6]):1]!@[NX3;!$(N[#6]=[O,S,N]);!$(N[#7,#8,#16]);!$(Nc):2]>>[CH:1]=O.[N:2]", 2, "NaBH(OAc)3, DCM",
        ),
        Template(
            "boc_removal", "Boc deprotection", "[NX3:1]C(=O)OC(C)(C)C>>[N:1]", "[NX3;H2,H1;!$(N[#6]=[O,S,N]):1]>>[N:1]C(=O)OC(C)(C)C", 1,
            "TFA, DCM",
        ),
        Template(
            "hydrolysis", "ester hydrolysis", "[CX3:1](=[OX1:2])[OX2H0][CX4;H3,H2]>>[C:1](=[O:2])[OH]",
            "[CX3;$(C[#6]):1](=[OX1:2])[OX2H1]>>[C:1](=[O:2])OC", 1, "LiOH, THF and water",
        ),
        Template(
            "nitro_reduction", "nitro reduction", "[#6:1][N+](=O)[O-]>>[#6:1]N", "[#6:1][NX3;H2;!$(N[#6]=[O,S,N])]>>[#6:1][N+](=O)[O-]", 1,
            "H2, Pd/C",
        ),
        Template(
            "oxidation", "alcohol oxidation", "[CX4;H2,H1;$(C[#6]):1][OX2H1]>>[C:1]=O", "[CX3;$(C[#6]);!$(C[!#6;!$(O=C)]):1]=[OX1]>>[C:1][OH]", 1,
            "Dess-Martin periodinane, DCM",
        ),
    )
}  # fmt: skip


def template_named(name: str) -> Template:
    """Raises ConfigError with a near miss."""
    if name not in TEMPLATES:
        raise ConfigError(f"there is no reaction template {name!r}.{near_miss(name, TEMPLATES)} Known: {', '.join(TEMPLATES)}.")
    return TEMPLATES[name]


@cache
def _reaction(smarts: str) -> Any:
    from rdkit.Chem import rdChemReactions

    with quiet():
        reaction = rdChemReactions.ReactionFromSmarts(smarts)
        reaction.Initialize()
    return reaction


def _run(smarts: str, mols: tuple[Any, ...]) -> Iterator[tuple[str, ...]]:
    """Outcomes as canonical SMILES, one tuple of products each; those with impossible valences are left out."""
    with quiet():
        for outcome in _reaction(smarts).RunReactants(mols, MAX_OUTCOMES):
            products = []
            for product in outcome:
                try:
                    Chem.SanitizeMol(product)
                except ValueError:
                    break
                products.append(canonical(Chem.MolFromSmiles(Chem.MolToSmiles(product)) or product))
            else:
                yield tuple(products)


@lru_cache(maxsize=8192)
def products_of(reactants: tuple[str, ...], template: str) -> frozenset[str]:
    """Canonical SMILES of every product of the template on these reactants, in any order.

    Raises:
        MoleculeFault: a reactant is no molecule.
        ConfigError: unknown template.
    """
    rule = template_named(template)
    mols = [read_molecule(text) for text in reactants]
    if len(mols) != rule.num_reactants:
        return frozenset()
    found: set[str] = set()
    for order in permutations(mols):
        found.update(products[0] for products in _run(rule.forward, order))
    return frozenset(found)


@lru_cache(maxsize=4096)
def precursors_of(product: str, template: str) -> frozenset[tuple[str, ...]]:
    """Sets of reactants (sorted canonical SMILES) from which the template makes the product; each is checked by running it forward."""
    target = canonical_smiles(product)
    found = set()
    for outcome in _run(template_named(template).retro, (read_molecule(product),)):
        reactants = tuple(sorted(outcome))
        if any("." in text for text in reactants):
            continue
        try:
            if target in products_of(reactants, template):
                found.add(reactants)
        except MoleculeFault:
            continue
    return frozenset(found)


def explain(reactants: Iterable[str], product: str, names: Iterable[str] = ()) -> str | None:
    """Name of a template that makes the product from these reactants; None when none does.

    Raises:
        MoleculeFault: one of them is no molecule.
    """
    texts, target = tuple(reactants), canonical_smiles(product)
    if not 1 <= len(texts) <= MAX_REACTANTS:
        return None
    for name in names or TEMPLATES:
        if target in products_of(texts, name):
            return name
    return None


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reaction as written: `reactants>reagents>products`, each a tuple of SMILES."""

    reactants: tuple[str, ...]
    reagents: tuple[str, ...]
    products: tuple[str, ...]


def split_reaction(text: str) -> Reaction:
    """Take reaction SMILES apart, without reading the molecules. Raises ValueError unless there are exactly two `>`."""
    text = text.strip().split()[0] if text.strip() else ""
    parts = text.split(">")
    if len(parts) != 3 or len(text) > 4000:
        raise ValueError(f"no reaction SMILES (reactants>reagents>products): {text[:60]!r}")
    return Reaction(*(tuple(one for one in part.split(".") if one) for part in parts))
