"""Settings of one eval step. Everything it needs stands in the build's `eval` section, so that every stage is measured alike."""

from __future__ import annotations

from dataclasses import dataclass

from factory.config.schema import StageConfig


@dataclass
class EvalStageConfig(StageConfig):
    """No settings of its own: an eval that differed between stages could not compare them."""

    kind: str = "eval"
