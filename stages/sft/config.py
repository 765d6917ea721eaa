"""Settings of an `sft` stage."""

from __future__ import annotations

from dataclasses import dataclass

from factory.config.schema import TrainStageConfig


@dataclass
class SftConfig(TrainStageConfig):
    """Supervised fine-tuning on worked lessons. One step = `batch_size` lessons."""

    kind: str = "sft"
    lessons: int = 3000
    """Lessons of one epoch. Fewer on disk: all of them."""
    epochs: int = 2
    batch_size: int = 32
    """Lessons per optimiser step, over all processes."""
    max_length: int = 2048
    """Tokens of prompt and response together. The end of a longer lesson is cut off and counted; one with images is refused."""
    cache_items: int = 20_000
    """Encoded lessons kept in memory; lower it for large images."""
