"""The pack's own options (`pack.*` in a build's config), checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from factory.domains.pathology.findings import EXTRA
from factory.errors import ConfigError, near_miss

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
            _one_of(f"pack.{name}", getattr(self, name), allowed)
        for task, share in self.shares.items():
            _one_of("a key of pack.shares", task, TASKS)
            _number(f"pack.shares.{task}", share, math.inf)
        if not sum(self.shares.values()) > 0:
            raise ConfigError("pack.shares gives no task a share above 0. Set one, for example pack.shares.diagnosis=1.")
        for name in self.extra_findings:
            _one_of("an item of pack.extra_findings", name, EXTRA)
        _number("pack.textbook", self.textbook, 1.0)
        _number("pack.region_captions", self.region_captions, 1.0)


def read_options(raw: Mapping[str, Any]) -> Options:
    """Check `pack.*` of a build without data paths. Raises ConfigError for an unknown key (with a near miss) or a value out of range.

    With data paths the loaders read `pack.*` instead, and these options do not apply.
    """
    known = [f.name for f in fields(Options)]
    for key in raw:
        if key not in known:
            raise ConfigError(
                f"pack.{key} is no option of the pathology pack.{near_miss(str(key), known)} Options: {', '.join(known)}."
            )
    values = dict(raw)
    extra = values.get("extra_findings", ())
    if isinstance(extra, str) or not all(isinstance(name, str) for name in extra):
        raise ConfigError(f"pack.extra_findings is {extra!r}; want a list such as [mitosis, necrosis].")
    values["extra_findings"] = tuple(extra)
    if not isinstance(values.get("shares", {}), Mapping):
        raise ConfigError(f"pack.shares is {values['shares']!r}; want a mapping of task to share.")
    return Options(**values)


def _one_of(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{what} is {value!r}; want one of {', '.join(allowed)}.{near_miss(str(value), allowed)}")


def _number(what: str, value: Any, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0.0 <= value <= most):
        raise ConfigError(f"{what} is {value!r}; want a finite number from 0{'' if math.isinf(most) else f' to {most:g}'}.")
