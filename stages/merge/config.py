"""Settings of a `merge` stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from factory.config.schema import StageConfig
from factory.errors import ConfigError


class How(str, Enum):
    """What becomes of the models that are read."""

    average = "average"
    choose = "choose"


class By(str, Enum):
    """What `choose` compares."""

    critical_entropy = "critical_entropy"
    validation = "validation"


CRITICAL_WORDS = (
    "wait", "alternatively", "however", "first", "hmm", "but", "actually", "maybe", "perhaps", "instead",
)  # fmt: skip
"""Openers of a reasoning step. The guide names `wait` and `alternatively` (Skywork-R1V3, techniques B12.2); the others are ours."""


@dataclass
class MergeConfig(StageConfig):
    """Make one model of those that the stages in `reads` made (`base` is the build's base). Trains nothing."""

    kind: str = "merge"
    how: How = How.average
    weights: list[float] = field(default_factory=list)
    """`average`: one weight for each name in `reads`, 0 or more, divided by their sum. Empty: all the same."""
    by: By = By.critical_entropy
    """`choose`: mean entropy at critical words (higher is better), or the mean score on validation samples."""
    samples: int = 200
    """`choose`: validation samples answered by each model. No test sample is read."""
    seed: int = 20_000
    """`choose`: seed of the validation samples; the default is that of `eval.seed`, hence the same samples."""
    batch_size: int = 64
    """`choose`: completions decoded together."""
    max_new_tokens: int = 64
    temperature: float = 0.0
    """`choose`: of the completions; 0 is greedy. The entropy is always that of the model's own distribution (temperature 1)."""
    words: list[str] = field(default_factory=lambda: list(CRITICAL_WORDS))
    """`critical_entropy`: the critical words, in any case, whole words only."""
    sentence_start: bool = True
    """`critical_entropy`: count a word only where it opens a sentence, a line or the reasoning."""

    def validate(self, key: str) -> None:
        """Raises ConfigError: too few or repeated names in `reads`, weights that do not fit, counts or words that cannot be."""
        self._check_reads(key)
        if self.how is How.average:
            self._check_weights(key)
            return
        if self.weights:
            raise ConfigError(f"{key}.weights is set, but {key}.how is choose, which averages nothing. Drop one of the two.")
        for name in ("samples", "batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{key}.{name} is {getattr(self, name)}; give 1 or more.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"{key}.temperature is {self.temperature}; give 0 (greedy) or more.")
        if self.by is By.critical_entropy and not [word for word in self.words if word.strip()]:
            raise ConfigError(f"{key}.words names no word, so no entropy can be taken. Leave it out for the default list.")

    def shares(self) -> list[float]:
        """The weight of each source, summing to 1."""
        weights = self.weights or [1.0] * len(self.reads)
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    def _check_reads(self, key: str) -> None:
        if len(self.reads) < 2:
            raise ConfigError(
                f"{key}.reads names {len(self.reads)} stages; {self.how.value} needs 2 or more. "
                f"Set {key}.reads=[STAGE, STAGE]; `base` is the build's base."
            )
        twice = sorted({name for name in self.reads if self.reads.count(name) > 1})
        if twice:
            raise ConfigError(
                f"{key}.reads names {', '.join(twice)} more than once. Give each once; use {key}.weights to weigh them."
            )

    def _check_weights(self, key: str) -> None:
        if self.weights and len(self.weights) != len(self.reads):
            raise ConfigError(
                f"{key}.weights has {len(self.weights)} numbers for {len(self.reads)} stages ({', '.join(self.reads)}). "
                "Give one for each, or none for equal weights."
            )
        if any(not math.isfinite(weight) or weight < 0 for weight in self.weights) or (self.weights and sum(self.weights) == 0):
            raise ConfigError(f"{key}.weights is {self.weights}; weights are finite, 0 or more, and not all 0.")
