"""Settings of a `select` stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from factory.config.schema import StageConfig
from factory.errors import ConfigError


class LessonRule(str, Enum):
    """Which right rollouts of a kept prompt become lessons."""

    none = "none"
    shortest_correct = "shortest_correct"
    random_correct = "random_correct"
    all_correct = "all_correct"


class PairRule(str, Enum):
    """Which rollouts of a kept prompt become preference pairs."""

    none = "none"
    right_wrong = "right_wrong"
    long2short = "long2short"


class Fallback(str, Enum):
    """Where the lesson of a prompt comes from that no rollout answers right."""

    none = "none"
    pack = "pack"


@dataclass
class SelectConfig(StageConfig):
    """Roll out the present model on training samples, verify, and write what later stages learn from."""

    kind: str = "select"
    samples: int = 1000
    """Prompts, always of the training split. Fewer on disk: all of them."""
    rollouts: int = 8
    """Completions of each prompt."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    batch: int = 16
    """Prompts rolled out together and written as one unit of progress."""
    right_from: float = 1.0
    """A rollout is right when its mixture value is at least this (1e-9 below it counts)."""
    min_pass: float | None = 0.0
    """Keep prompts whose pass rate is above this (OREAL: 0); null asks nothing."""
    max_pass: float | None = 1.0
    """Keep prompts whose pass rate is below this; null asks nothing."""
    variance_quantile: float | None = None
    """Keep prompts whose reward spread reaches this quantile of all spreads (Temporal-R1 names no value; null asks nothing)."""
    variance_top: int = 0
    """Keep so many prompts of the largest reward variance; 0 asks nothing."""
    blind_rollouts: int = 0
    """Completions of each prompt without its images (RAP); 0 measures none."""
    min_rap_d: float = 0.5
    """With `blind_rollouts`: keep prompts whose pass rate falls by at least this without the images."""
    repeat: list[list[float]] = field(default_factory=list)
    """[[bound, times], …]: a kept prompt with a pass rate below the bound counts so often; OREAL: [[0.2, 6], [0.6, 4], [0.8, 2]]."""
    lessons: LessonRule = LessonRule.shortest_correct
    fallback: Fallback = Fallback.none
    """`pack`: a prompt with pass rate 0 gets the pack's own lesson for that sample, where it has one (Metis-RISE)."""
    pairs: PairRule = PairRule.none
    longer: float = 1.5
    """long2short: a right rollout loses when it is at least so many times as long as the shortest right one."""
    max_pairs: int = 0
    """Pairs of one prompt at most, drawn from the seed; 0 takes all."""

    def validate(self, key: str) -> None:
        """Refuse settings out of range. Raises ConfigError with the key and the remedy."""
        for name in ("samples", "rollouts", "max_new_tokens", "batch"):
            _want(key, name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("blind_rollouts", "variance_top", "max_pairs"):
            _want(key, name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        _want(key, "temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _want(key, "top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _want(key, "right_from", self.right_from, 0 < self.right_from <= 1, "above 0 and at most 1")
        for name in ("min_pass", "max_pass", "variance_quantile"):
            value = getattr(self, name)
            _want(key, name, value, value is None or 0 <= value <= 1, "between 0 and 1, or null")
        _want(key, "min_rap_d", self.min_rap_d, -1 <= self.min_rap_d <= 1, "between -1 and 1")
        _want(key, "longer", self.longer, 1 <= self.longer < math.inf, "1 or more")
        self._validate_together(key)

    def _validate_together(self, key: str) -> None:
        if self.min_pass is not None and self.max_pass is not None and self.min_pass >= self.max_pass:
            raise ConfigError(
                f"{key}.min_pass is {self.min_pass} and {key}.max_pass {self.max_pass}: no pass rate lies between. Lower min_pass."
            )
        if self.variance_quantile is not None and self.variance_top:
            raise ConfigError(f"{key}.variance_quantile and {key}.variance_top are two rules for one choice. Set one of them.")
        if self.temperature == 0 and self.rollouts > 1:
            raise ConfigError(
                f"{key}.temperature is 0, so all {self.rollouts} rollouts of a prompt are equal. Set {key}.temperature=1."
            )
        rows = [row for row in self.repeat if len(row) != 2]
        bounds, times = [row[0] for row in self.repeat if len(row) == 2], [row[1] for row in self.repeat if len(row) == 2]
        is_table = all(0 < bound <= 1 for bound in bounds) and all(n >= 1 and n == int(n) for n in times)
        if rows or not is_table or bounds != sorted(set(bounds)):
            raise ConfigError(
                f"{key}.repeat is {self.repeat}; write [bound, times] rows, bounds rising from above 0 to at most 1, "
                "times whole and 1 or more, for example [[0.2, 6], [0.6, 4], [0.8, 2]]."
            )


def _want(key: str, name: str, value: object, is_good: bool, wanted: str) -> None:
    if not is_good:
        raise ConfigError(f"{key}.{name} is {value}; it must be {wanted}. Set {key}.{name} to a value in that range.")
