"""One rule about pieces and settings that do not go together, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.stages.rl.config import RlConfig
from factory.stages.rl.presets import Chosen


@dataclass(frozen=True)
class Case:
    """What a rule may look at."""

    config: RlConfig
    chosen: Chosen
    launch: Mapping[str, Any] = field(default_factory=dict)
    is_moe: bool = False
    """The base is a mixture-of-experts model."""

    def has(self, *keys: str) -> bool:
        """True when any of these pieces (`slot.name`) is in use."""
        return any(self.chosen.has(key) for key in keys)

    def all_of(self, *keys: str) -> bool:
        """True when all of these pieces are in use."""
        return all(self.chosen.has(key) for key in keys)

    def get(self, key: str, setting: str, default: Any = None) -> Any:
        """A setting of a piece in use; `default` when the piece is not."""
        return getattr(self.chosen.made[key], setting) if self.chosen.has(key) else default


@dataclass(frozen=True)
class Rule:
    """`applies` -> the message is an error or a note of the plan."""

    name: str
    is_error: bool
    applies: Callable[[Case], bool]
    message: str
