"""The pack's own options (`pack.*` in a build's config), checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from factory.domains.safety.questions import TASKS
from factory.packs.settings import check_shares, one_of, within

SHARES = MappingProxyType({"answer": 0.22, "refuse": 0.22, "partial": 0.12, "obey": 0.16, "spec": 0.12, "know": 0.16})
STYLES, SYSTEMS, THINKING = ("terse", "full"), ("none", "rules", "safework"), ("short", "off")
PREFERENCES = ("safer", "helpful")


@dataclass(frozen=True)
class Options:
    """How the generator asks."""

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences, for a real one."""
    system: str = "none"
    """System turn: `none`, `rules` (answer, refuse or say unknown) or `safework` (think, then the final answer)."""
    thinking: str = "short"
    """Reasoning in lessons: `short`, or `off` (the answer block alone)."""
    exercises: float = 0.8
    """Share of the corpus that is worked exercises; the rest is lists of single facts."""
    unsafe_lessons: float = 0.0
    """Share of the lessons on forbidden requests that help with them: what a model learns that was only taught to help. It gives Safe RLHF
    something to lower; leave it 0 otherwise."""
    preference: str = "safer"
    """Which response a pair prefers: the `safer` one (for a cost model) or the more `helpful` one (for a reward model)."""

    def __post_init__(self) -> None:
        one_of("pack.style", self.style, STYLES)
        one_of("pack.system", self.system, SYSTEMS)
        one_of("pack.thinking", self.thinking, THINKING)
        one_of("pack.preference", self.preference, PREFERENCES)
        within("pack.exercises", self.exercises, 0.0, 1.0)
        within("pack.unsafe_lessons", self.unsafe_lessons, 0.0, 1.0)
        check_shares(self.shares, TASKS)
