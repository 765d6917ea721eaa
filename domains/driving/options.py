"""The pack's own options (`pack.*` in a build's config), checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from factory.domains.driving.rules import MARGIN
from factory.packs.settings import check_shares, one_of, within

TASKS = ("speed", "path", "plan", "waypoints", "perceive", "safe", "choice")
SHARES = MappingProxyType(
    {"speed": 0.15, "path": 0.15, "plan": 0.25, "waypoints": 0.1, "perceive": 0.15, "safe": 0.1, "choice": 0.1}
)
CHOICES = MappingProxyType(
    {
        "view": ("front", "top", "text", "mixed"),
        "style": ("terse", "full"),
        "system": ("none", "driver"),
        "thinking": ("on", "off"),
    }
)
STYLE_OF_DATA = "full"
"""Style of the questions that loaders write: real rows are for real models."""


@dataclass(frozen=True)
class Options:
    """How the generator draws and asks."""

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    view: str = "front"
    """`front` and `top` are pictures, `text` is words and numbers; `mixed` takes one of the pictures by lot."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences and AlphaDrive's capitals, for a real one."""
    system: str = "none"
    """System turn: `none` or `driver`."""
    thinking: str = "on"
    """`off`: lessons hold the answer block alone, and the form wanted is that."""
    swapped_lessons: bool = False
    """Give each lesson the response to another scene's question of its task: it teaches how answers are written, and nothing of which is
    right. For ablations."""
    textbook: float = 0.25
    """Share of the corpus that is sheets of exercises in text, without a scene."""
    clearance: float = MARGIN
    """Scenes nearer than this share to a threshold are refused: .1 takes all levels, .25 leaves out `hard`, .5 keeps only `easy`."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            one_of(f"pack.{name}", getattr(self, name), allowed)
        check_shares(self.shares, TASKS)
        within("pack.textbook", self.textbook, 0.0, 1.0)
        within("pack.clearance", self.clearance, MARGIN, 0.5)
