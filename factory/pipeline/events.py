"""What a build reports while it runs. The command line renders events; nothing else depends on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that happened to one step (or to the whole build: `step` is empty)."""

    kind: str
    """`build-start`, `check`, `step-skip`, `step-start`, `progress`, `rollback`, `step-end`, `result` or `build-end`."""
    step: str = ""
    """Name of the step's folder, for example `02-cpt`."""
    index: int = 0
    total: int = 0
    """Position of the step and number of steps."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """`progress`: a row of metrics.jsonl. `rollback`: why. `step-end`: seconds and metrics. `result`: the content of result.json."""


OnEvent = Callable[[Event], None]


def silent(event: Event) -> None:
    """Show nothing."""
