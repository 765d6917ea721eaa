"""Computed properties of a molecule, by name. Units in the table; all deterministic, none measured."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from rdkit import Chem
from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors

from factory.domains.chemistry.molecules import quiet
from factory.errors import ConfigError, PluginError, near_miss


def esol(mol: Any) -> float:
    """log10 of solubility in mol/L, ChemCoTBench's refit of ESOL; RMSE about 1.0 against the 1,128 measured values.

    0.26121066 - 0.0066138848 MW - 0.741673952 logP + 0.0034515456 rotors - 0.426248404 (aromatic share of heavy atoms).
    """
    aromatic = sum(atom.GetIsAromatic() for atom in mol.GetAtoms()) / mol.GetNumHeavyAtoms() if mol.GetNumHeavyAtoms() else 0.0
    return (
        0.26121066137801696 - 0.0066138847738667125 * Descriptors.MolWt(mol) - 0.7416739523408995 * Crippen.MolLogP(mol)
        + 0.003451545565957996 * rdMolDescriptors.CalcNumRotatableBonds(mol) - 0.42624840441316975 * aromatic
    )  # fmt: skip


@cache
def _sascorer() -> Any:
    from rdkit.Chem import RDConfig

    path = os.path.join(RDConfig.RDContribDir, "SA_Score", "sascorer.py")
    spec = importlib.util.spec_from_file_location("factory_chemistry_sascorer", path) if os.path.isfile(path) else None
    if spec is None or spec.loader is None:
        raise PluginError(f"the SA score needs RDKit's Contrib folder, which is missing at {path}. Install RDKit from its wheel.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sa_score(mol: Any) -> float:
    """Synthetic accessibility by Ertl and Schuffenhauer, 1 (easy) to 10 (hard); RDKit's own implementation and table."""
    return float(_sascorer().calculateScore(mol))


def qed(mol: Any) -> float:
    """Drug-likeness in [0, 1] (Bickerton 2012)."""
    from rdkit.Chem import QED

    return float(QED.qed(mol))


def stereocentres(mol: Any) -> int:
    """Tetrahedral stereocentres, assigned or not."""
    return len(Chem.FindMolChiralCenters(mol, includeUnassigned=True, useLegacyImplementation=False))


@cache
def _alerts() -> Any:
    from rdkit.Chem import FilterCatalog

    params = FilterCatalog.FilterCatalogParams()
    params.AddCatalog(FilterCatalog.FilterCatalogParams.FilterCatalogs.BRENK)
    return FilterCatalog.FilterCatalog(params)


def alerts(mol: Any) -> int:
    """Number of structural alerts for toxicity or reactivity (Brenk 2008)."""
    return len(_alerts().GetMatches(mol))


PROPERTIES: Mapping[str, Callable[[Any], float]] = {
    "logp": Crippen.MolLogP,  # Crippen, no unit
    "mr": Crippen.MolMR,  # molar refractivity, cm3/mol
    "qed": qed,
    "tpsa": rdMolDescriptors.CalcTPSA,  # square angstrom
    "sa": sa_score,
    "solubility": esol,  # log10 mol/L
    "mw": Descriptors.MolWt,  # g/mol, average
    "exact_mw": Descriptors.ExactMolWt,  # g/mol, monoisotopic
    "alerts": alerts,
}
"""Name -> function of an RDKit molecule."""
ALIASES = {"logd": "logp", "esol": "solubility", "logs": "solubility", "weight": "mw"}

COUNTS: Mapping[str, Callable[[Any], int]] = {
    "heavy atoms": lambda mol: mol.GetNumHeavyAtoms(),
    "rings": rdMolDescriptors.CalcNumRings,
    "aromatic rings": rdMolDescriptors.CalcNumAromaticRings,
    "donors": rdMolDescriptors.CalcNumHBD,
    "acceptors": rdMolDescriptors.CalcNumHBA,
    "rotors": rdMolDescriptors.CalcNumRotatableBonds,
    "stereocentres": stereocentres,
    "double bonds": lambda mol: sum(bond.GetBondType() == Chem.BondType.DOUBLE for bond in _kekulized(mol).GetBonds()),
}
"""What can be counted, besides elements and groups."""


def _kekulized(mol: Any) -> Any:
    mol = Chem.Mol(mol)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def property_of(mol: Any, name: str) -> float:
    """A property by name. Raises ConfigError for an unknown name."""
    key = property_name(name)
    with quiet():
        return float(PROPERTIES[key](mol))


def property_name(name: str) -> str:
    """The name in the table, from it or an alias, in any case. Raises ConfigError with a near miss."""
    key = str(name).casefold().strip()
    key = ALIASES.get(key, key)
    if key not in PROPERTIES:
        raise ConfigError(f"there is no property {name!r}.{near_miss(key, PROPERTIES)} Known: {', '.join(PROPERTIES)}.")
    return key


def count_of(mol: Any, what: str) -> int:
    """A count by name: one of COUNTS, or the symbol of an element. Raises ConfigError for another name."""
    if what in COUNTS:
        with quiet():
            return int(COUNTS[what](mol))
    from factory.domains.chemistry.formulas import ELEMENTS, formula_of

    if what in ELEMENTS:
        return formula_of(mol)[0].get(what, 0)
    raise ConfigError(f"there is no count {what!r}.{near_miss(what, COUNTS)} Known: {', '.join(COUNTS)}, and elements.")


def scaffold(mol: Any) -> str:
    """Canonical SMILES of the Bemis-Murcko scaffold without stereo; empty for a molecule without rings."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with quiet():
        return Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol), isomericSmiles=False)


def generic_scaffold(mol: Any) -> str:
    """The scaffold with all atoms carbon and all bonds single: ChemCoTBench's soft comparison."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with quiet():
        return Chem.MolToSmiles(MurckoScaffold.MakeScaffoldGeneric(MurckoScaffold.GetScaffoldForMol(mol)), isomericSmiles=False)
