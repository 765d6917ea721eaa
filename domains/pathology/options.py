"""The pack's own options (`pack.*` in a build's config), checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from factory.domains.pathology.findings import EXTRA
from factory.packs.settings import check_shares, one_of, read_settings, within

TASKS = ("finding", "yes_no", "choice", "diagnosis", "impression", "region")
SHARES = MappingProxyType({"finding": 0.3, "yes_no": 0.15, "choice": 0.2, "diagnosis": 0.15, "impression": 0.1, "region": 0.1})
CHOICES = MappingProxyType(
    {"style": ("terse", "full"), "system": ("none", "expert", "draft"), "thinking": ("graded", "short", "off")}
)


@dataclass(frozen=True)
class Options:
    """How the generator asks and what it draws."""

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences, for a real one."""
    system: str = "none"
    """System turn: `none`, `expert` (full chain of thought) or `draft` (at most five words a step)."""
    thinking: str = "graded"
    """Reasoning in lessons: `graded` by difficulty, `short` (conclusion only), or `off` (no reasoning block)."""
    extra_findings: tuple[str, ...] = ()
    """Findings drawn and asked beyond the core: any of shape, mitosis, necrosis."""
    textbook: float = 0.25
    """Share of the corpus that is sheets of exercises in text: the table, letters and statements, without image."""
    region_captions: float = 0.2
    """Share of the captioned tiles that show a nest."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            one_of(f"pack.{name}", getattr(self, name), allowed)
        check_shares(self.shares, TASKS)
        for name in self.extra_findings:
            one_of("an item of pack.extra_findings", name, EXTRA)
        within("pack.textbook", self.textbook, 0.0, 1.0)
        within("pack.region_captions", self.region_captions, 0.0, 1.0)


def read_options(raw: Mapping[str, Any]) -> Options:
    """Check `pack.*` of a build without data paths. Raises ConfigError for an unknown key (with a near miss) or a value out of range.

    With data paths the loaders read `pack.*` instead, and these options do not apply.
    """
    return read_settings(Options, raw, pack="pathology")
