"""A stage kind of a third party, for tests: it has settings and plans, and trains nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from factory.config.schema import TrainStageConfig
from factory.contracts import StagePlan
from factory.errors import ConfigError


class Mood(StrEnum):
    calm = "calm"
    brisk = "brisk"


@dataclass
class DrillConfig(TrainStageConfig):
    kind: str = "drill"
    group_size: int = 8
    rounds: list[int] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    mood: Mood = Mood.calm
    cap: float | None = None

    def validate(self, key: str) -> None:
        if self.group_size < 2:
            raise ConfigError(f"{key}.group_size is {self.group_size}; a group needs 2 or more. Set {key}.group_size=8.")


class Drill:
    kind = "drill"
    config_type = DrillConfig
    consumes = frozenset({"model"})
    produces = frozenset({"model"})

    def plan(self, name, config, facts, pack, build):
        return StagePlan(name, self.kind, config.group_size, 1, 10)


STAGE = Drill()
