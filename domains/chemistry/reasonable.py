"""Is a molecule like those that chemists have made? A set of ring systems and Morgan environments, built from the user's corpus.

ether0 checks against Bloom filters that its repository does not ship; here the set is exact and yours:

    python -m factory.domains.chemistry.reasonable corpus.csv seen.json --column smiles
    factory build --domain chemistry --set pack.reasonable=seen.json

Without a set only the form is checked: at most two fragments, the smaller of at most five heavy atoms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rdkit import Chem

from factory.domains.chemistry.molecules import MoleculeFault, fragments, pattern, quiet, read_molecule
from factory.errors import ConfigError

MAX_FRAGMENTS = 2
MAX_SMALL_FRAGMENT = 5
"""Heavy atoms of the smaller fragment (a counter-ion, water)."""

REOS = {
    "S-S-S": "[#16]-[#16]-[#16]", "O~O": "[#8]~[#8]", "N-NH2": "[#7]-[NX3H2]", "three adjacent N": "[#7]~[#7]~[#7]",
    "nitrite": "[OX2]N=O", "thionitrite": "[SX2]N=O", "nitrate": "[OX2][N+](=O)[O-]", "nitro": "[#6][N+](=O)[O-]",
    "nitroso": "[#6,#7]N=[OX1]", "seven sp3 carbons": "[CX4;!R][CX4;!R][CX4;!R][CX4;!R][CX4;!R][CX4;!R][CX4;!R]",
}  # fmt: skip
"""ether0's list of what a good molecule does not have."""


@dataclass(frozen=True)
class Seen:
    """Ring systems (canonical SMILES) and Morgan environments of radius 2 (hashes) that occur in a corpus."""

    rings: frozenset[str]
    environments: frozenset[int]

    def to_json(self) -> dict[str, Any]:
        """Sorted lists."""
        return {"rings": sorted(self.rings), "environments": sorted(self.environments)}


def ring_systems(mol: Any) -> set[str]:
    """Canonical SMILES of each fused or bridged ring system."""
    systems: list[set[int]] = []
    for ring in mol.GetRingInfo().AtomRings():
        merged, rest = set(ring), []
        for system in systems:
            if merged & system:
                merged |= system
            else:
                rest.append(system)
        systems = [*rest, merged]
    with quiet():
        return {Chem.MolFragmentToSmiles(mol, sorted(system), isomericSmiles=False) for system in systems}


def environments(mol: Any) -> set[int]:
    """Hashes of the Morgan environments up to radius 2, not folded."""
    from rdkit.Chem import rdFingerprintGenerator

    with quiet():
        return set(rdFingerprintGenerator.GetMorganGenerator(radius=2).GetSparseCountFingerprint(mol).GetNonzeroElements())


def build(smiles: Iterable[str]) -> tuple[Seen, int]:
    """The set of a corpus, and how many texts were no molecule (counted, not fatal)."""
    rings: set[str] = set()
    bits: set[int] = set()
    bad = 0
    for text in smiles:
        try:
            mol = read_molecule(text, allow_wildcard=True)
        except MoleculeFault:
            bad += 1
            continue
        rings |= ring_systems(mol)
        bits |= environments(mol)
    return Seen(frozenset(rings), frozenset(bits)), bad


@lru_cache(maxsize=16)
def _load(path: str, sha256: str) -> Seen:
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"the set of seen environments {path} has changed since the data were read. Start the build again.")
    raw = json.loads(data)
    return Seen(frozenset(map(str, raw["rings"])), frozenset(map(int, raw["environments"])))


def reasonable_meta(path: str) -> dict[str, Any]:
    """What a sample's meta must say so that workers use the set. Raises ConfigError for a file that is none."""
    if not path:
        return {}
    file = Path(path).expanduser()
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        _load(str(file.resolve()), digest)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as err:
        raise ConfigError(
            f"pack.reasonable: {path} is no set of seen environments: {err}. Build it with python -m factory.domains.chemistry.reasonable."
        ) from err
    return {"reasonable": {"path": str(file.resolve()), "sha256": digest}}


def seen_of(meta: Mapping[str, Any]) -> Seen | None:
    """The set of a sample, if it names one. Raises ValueError when it is gone or has changed."""
    said = meta.get("reasonable")
    if not isinstance(said, Mapping):
        return None
    try:
        return _load(str(said["path"]), str(said["sha256"]))
    except OSError as err:
        raise ValueError(f"the set {said['path']} cannot be read: {err.strerror}") from err


def fault(mol: Any, seen: Seen | None = None) -> str | None:
    """Why a molecule is not reasonable (`counter-ion`, `ring`, `environment`), or None."""
    parts = fragments(mol)
    if len(parts) > MAX_FRAGMENTS or (len(parts) == 2 and parts[1].GetNumHeavyAtoms() > MAX_SMALL_FRAGMENT):
        return "counter-ion"
    if seen is not None:
        if not ring_systems(mol) <= seen.rings:
            return "ring"
        if not environments(mol) <= seen.environments:
            return "environment"
    return None


def reos_hits(mol: Any) -> list[str]:
    """Names of ether0's undesirable patterns that occur; none for a "good molecule"."""
    return [name for name, smarts in REOS.items() if mol.HasSubstructMatch(pattern(smarts))]


def main(arguments: list[str] | None = None) -> int:
    """Build a set from a table of SMILES and write it as JSON."""
    import argparse
    import sys

    from factory.data.rows import RowReport, list_files, read_rows

    parser = argparse.ArgumentParser(prog="python -m factory.domains.chemistry.reasonable", description=main.__doc__)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("output")
    parser.add_argument("--column", default="smiles")
    asked = parser.parse_args(arguments)
    report = RowReport(max_bad_fraction=1.0)
    texts = [
        str(row.get(asked.column, ""))
        for path in asked.tables
        for file in list_files([path])
        for _, row in read_rows(file, report)
    ]
    seen, bad = build(texts)
    Path(asked.output).write_text(json.dumps(seen.to_json()), encoding="utf-8")
    sys.stdout.write(
        f"{asked.output}: {len(seen.rings)} ring systems, {len(seen.environments)} environments of {len(texts) - bad} molecules; "
        f"{bad} texts were no molecule\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
