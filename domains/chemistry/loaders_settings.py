"""Settings of the loaders: keys of `pack.*` when data paths are given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from factory.contracts import EXACT_TEXT
from factory.domains.chemistry.equality import LEVELS
from factory.domains.chemistry.reasonable import reasonable_meta
from factory.domains.chemistry.screening import screening_meta
from factory.packs.settings import one_of, within
from factory.packs.sources import LoadSettings

DERIVED = ("formula", "scaffold", "rings")
"""Questions that any SMILES gives, with computed answers."""


@dataclass(frozen=True)
class LoadOptions(LoadSettings):
    """What the chemistry loaders may be told."""

    split_by: str = "scaffold"
    """What stays in one split: `scaffold` (Murcko; molecules without rings by themselves) or `molecule`."""
    smiles_field: str = ""
    """Column of the SMILES, when it has an unusual name."""
    target: tuple[str, ...] = ()
    """Columns to be asked for, when they are not those of a known set."""
    tolerance: float = 0.5
    """Absolute error up to which a predicted number is right."""
    derive: tuple[str, ...] = ("formula", "scaffold")
    """Computed questions about molecules that come without a label: any of formula, scaffold, rings."""
    reactions: tuple[str, ...] = ("forward",)
    """Questions made from each reaction: any of forward, retro, conditions."""
    stable_below: float = 0.0
    """Energy above the hull, eV per atom, up to which a crystal counts as stable."""
    level: str = "exact_isomeric"
    """When two molecules count as the same: a level of equality.py."""
    screening: str = ""
    """A further screening list of your site (YAML)."""
    screening_override: str = ""
    """A written reason to screen nothing; it stands in the lineage."""
    reasonable: str = ""
    """A set of seen ring systems and environments (reasonable.py)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("pack.split_by", self.split_by, ("scaffold", "molecule"))
        one_of("pack.level", self.level, LEVELS)
        within("pack.tolerance", self.tolerance, 0.0, 1e6)
        for name in self.derive:
            one_of("an item of pack.derive", name, DERIVED)
        for name in self.reactions:
            one_of("an item of pack.reactions", name, ("forward", "retro", "conditions"))
        self.extra_meta()

    def extra_meta(self) -> dict[str, Any]:
        """What every sample's meta says: letters count in both cases (C1CCCCC1 is not c1ccccc1), and the options beyond the defaults."""
        meta = {EXACT_TEXT: True, **screening_meta(self.screening, self.screening_override), **reasonable_meta(self.reasonable)}
        return meta | ({"level": self.level} if self.level != "exact_isomeric" else {})


LOADER_KEYS = frozenset(item.name for item in fields(LoadOptions))
