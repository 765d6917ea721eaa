"""The pack's own options (`pack.*` in a build's config) for generated data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from factory.contracts import EXACT_TEXT
from factory.domains.chemistry.equality import LEVELS
from factory.domains.chemistry.objectives import spec_of
from factory.domains.chemistry.reasonable import reasonable_meta
from factory.domains.chemistry.screening import screening_meta
from factory.errors import ConfigError
from factory.packs.settings import check_shares, one_of, read_settings, within

SHARES = MappingProxyType(
    {
        "count": 0.12, "groups": 0.08, "formula": 0.12, "scaffold": 0.06, "same": 0.08, "name": 0.06, "add": 0.05, "delete": 0.06,
        "swap": 0.05, "compose": 0.08, "optimise": 0.06, "forward": 0.06, "retro": 0.05, "balance": 0.05, "route": 0.02,
        "design": 0.02,
    }
)  # fmt: skip
"""Task -> share of the generated questions."""
STYLES = ("terse", "full")
SYSTEMS = ("none", "expert")
THINKING = ("on", "off")


@dataclass(frozen=True)
class Options:
    """How the generator asks and what it draws."""

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    style: str = "terse"
    """`terse`: a few words about small molecules, for the embedded model. `full`: sentences about larger ones."""
    system: str = "none"
    """System turn: `none` or `expert`."""
    thinking: str = "on"
    """`off`: the answer block alone, in lessons and in the form that is rewarded."""
    atoms: int = 8
    """Most heavy atoms of a drawn chain in the terse style."""
    rings: float = 0.25
    """Share of the drawn molecules that are rings with side chains, in the terse style."""
    drills: float = 0.0
    """Share of the corpus that is drills: a molecule copied, or its atoms numbered. They teach reading letter by letter."""
    design: str = "normalised"
    """How `design` sums its objectives: `normalised`, or PaccMann's `protein` or `ic50` (objectives.py)."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Objective -> weight, over those of the recipe. Without an oracle for it, the affinity has none."""
    oracles: Mapping[str, str] = field(default_factory=dict)
    """`affinity`, `tox21`, `sc_score` -> `module:function` of a SMILES."""
    level: str = "exact_isomeric"
    """When two molecules count as the same: a level of equality.py."""
    screening: str = ""
    """A further screening list of your site (YAML), beside the shipped one."""
    screening_override: str = ""
    """A written reason to screen nothing; it stands in the lineage."""
    reasonable: str = ""
    """A set of seen ring systems and environments (reasonable.py), for compose and design."""

    def __post_init__(self) -> None:
        one_of("pack.style", self.style, STYLES)
        one_of("pack.system", self.system, SYSTEMS)
        one_of("pack.thinking", self.thinking, THINKING)
        one_of("pack.level", self.level, LEVELS)
        check_shares(self.shares, tuple(SHARES))
        within("pack.atoms", self.atoms, 3, 12)
        within("pack.rings", self.rings, 0.0, 1.0)
        within("pack.drills", self.drills, 0.0, 1.0)
        try:
            spec_of(self.design_reference())
        except ValueError as err:
            raise ConfigError(f"pack.design, pack.weights or pack.oracles: {err}.") from err
        self.extra_meta()

    def design_reference(self) -> dict[str, Any]:
        """Recipe, weights and oracles as a `design` sample's reference holds them."""
        weights = dict(self.weights)
        if self.design == "normalised" and "affinity" not in self.oracles:
            weights.setdefault("affinity", 0.0)
        return {
            "recipe": self.design,
            **({"weights": weights} if weights else {}),
            **({"oracles": dict(self.oracles)} if self.oracles else {}),
        }

    def extra_meta(self) -> dict[str, Any]:
        """What every sample's meta says: letters count in both cases (C1CCCCC1 is not c1ccccc1), and the options beyond the defaults."""
        meta = {EXACT_TEXT: True, **screening_meta(self.screening, self.screening_override), **reasonable_meta(self.reasonable)}
        if self.level != "exact_isomeric":
            meta["level"] = self.level
        if self.thinking == "off":
            meta["shape"] = "answer"
        return meta


def read_options(raw: Mapping[str, Any]) -> Options:
    """Check `pack.*` of a build without data paths. Raises ConfigError for an unknown key or a value out of range."""
    from factory.domains.chemistry.loaders_settings import LOADER_KEYS

    return read_settings(Options, raw, pack="chemistry", also=LOADER_KEYS)
