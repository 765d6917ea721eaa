"""The screening list: named agents by InChIKey and structural alerts, refused as targets. A norm, not a barrier (README, "Not for").

A sample's target and a rollout's molecule are looked up; only the list's entry is told, never the structure. `pack.screening` adds
a site's own file; `pack.screening_override` with a written reason switches it off, and stands in the build's config and so in the
lineage of every model that it leads to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from factory.contracts import Sample
from factory.domains.chemistry.equality import inchikey
from factory.domains.chemistry.molecules import MoleculeFault, fragments, pattern, quiet, read_molecule
from factory.errors import ConfigError
from factory.quick_yaml import read_yaml

SHIPPED = Path(__file__).parent / "screening.yaml"
MIN_REASON = 12
"""Characters of an override's reason."""


@dataclass(frozen=True)
class Screen:
    """What is refused."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """First block of an InChIKey -> entry of the list."""
    alerts: Mapping[str, str] = field(default_factory=dict)
    """Entry of the list -> SMARTS."""

    def hit(self, mol: Any) -> str | None:
        """The entry that a molecule or one of its fragments hits; None for the rest."""
        with quiet():
            for part in fragments(mol):
                entry = self.keys.get(inchikey(part).partition("-")[0])
                if entry:
                    return entry
            return next((entry for entry, smarts in self.alerts.items() if mol.HasSubstructMatch(pattern(smarts))), None)

    def hit_in(self, texts: Iterable[str]) -> str | None:
        """The same for SMILES; texts that are none hit nothing."""
        for text in texts:
            try:
                entry = self.hit(read_molecule(text, allow_wildcard=True))
            except MoleculeFault:
                continue
            if entry:
                return entry
        return None


@cache
def read_screen(path: Path) -> Screen:
    """A list of the shape of `screening.yaml`: `keys` (entry -> InChIKeys or their first blocks) and `alerts` (entry -> SMARTS).

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
        keys = {str(key).split("-")[0].upper(): str(entry) for entry, rows in (raw.get("keys") or {}).items() for key in rows}
        alerts = {str(entry): str(smarts) for entry, smarts in (raw.get("alerts") or {}).items()}
        for smarts in alerts.values():
            pattern(smarts)
    except (OSError, AttributeError, TypeError, ValueError, yaml.YAMLError) as err:
        raise ConfigError(f"{path}: is no screening list: {err}. Write it like {SHIPPED.name} of the chemistry pack.") from err
    return Screen(keys, alerts)


def merged(*screens: Screen) -> Screen:
    """All their entries together."""
    keys: dict[str, str] = {}
    alerts: dict[str, str] = {}
    for screen in screens:
        keys.update(screen.keys)
        alerts.update(screen.alerts)
    return Screen(keys, alerts)


def screening_meta(path: str, override: str) -> dict[str, Any]:
    """What a sample's meta must say so that workers screen alike: nothing for the shipped list alone.

    Raises:
        ConfigError: an override without a reason, or a file that is no list.
    """
    if override:
        if len(override.strip()) < MIN_REASON:
            raise ConfigError(
                f"pack.screening_override is {override!r}; write the reason in a sentence. It is kept in the lineage of every model."
            )
        return {"screening": {"off": override.strip()}}
    if not path:
        return {}
    file = Path(path).expanduser()
    read_screen(file)
    return {"screening": {"path": str(file.resolve()), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}


@lru_cache(maxsize=64)
def _site_list(path: str, sha256: str) -> Screen:
    file = Path(path)
    try:
        is_same = hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError as err:
        raise ValueError(f"the screening list {path} cannot be read: {err.strerror}") from err
    if not is_same:
        raise ValueError(f"the screening list {path} has changed since the data were read. Start the build again.")
    return merged(read_screen(SHIPPED), read_screen(file))


def screen_of(meta: Mapping[str, Any]) -> Screen:
    """The list that holds for a sample. Raises ValueError when its site list is gone or has changed: the sample is faulty."""
    said = meta.get("screening")
    if not isinstance(said, Mapping):
        return read_screen(SHIPPED)
    if said.get("off"):
        return Screen()
    return _site_list(str(said["path"]), str(said["sha256"]))


def refused(mol: Any, sample: Sample) -> str | None:
    """Why an answer is refused, or None. The structure is not told."""
    entry = screen_of(sample.meta).hit(mol)
    return f"refused by the screening list ({entry})" if entry else None


def check_directions(weights: Mapping[str, Any], seek: Iterable[str] = ()) -> None:
    """Refuse rewards that seek a hazard: hazards may be penalised only.

    Args:
        weights: objective -> weight; every objective of the pack is oriented so that more is safer or more useful.
        seek: names of properties to be raised.

    Raises:
        ConfigError: a negative weight, or a hazard to be raised.
    """
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ConfigError(f"the weight of objective '{name}' is {weight!r}; want a number of 0 or more. "
                              "A negative weight would seek what the objective avoids, and that is refused.")  # fmt: skip
    for name in seek:
        if str(name).casefold() in HAZARDS:
            raise ConfigError(f"'{name}' is a hazard; the pack has no reward that raises it. Lower it instead.")


HAZARDS = frozenset({"alerts", "toxicity", "tox", "tox21", "ct_tox", "clintox", "lethality", "herg", "mutagenicity", "ames"})
"""Properties that may be lowered or predicted, never raised."""
