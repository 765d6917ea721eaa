"""Settings of an `sft` stage."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    lessons_from: str = ""
    """Where the lessons come from: empty for the pack, an earlier stage that writes lessons (`select`), or a lessons.jsonl (`./x`).
    With `start: base` this is OpenVLThinker's round: the base learns anew from what its own successor answered right."""
    mix_pack: float = 0.0
    """Share of the lessons that are the pack's own, mixed into those of `lessons_from` (expert traces beside self-distillation)."""
    tasks: list[str] = field(default_factory=list)
    """Only lessons of these tasks of the pack; empty for all."""
    media: str = "any"
    """Only the pack's lessons without images (`text`), only those with (`images`), or `any`."""
    cache_mb: int = 512
    """MiB of encoded lessons that each process keeps in memory for later epochs; what finds no room is encoded again. 0 keeps none."""
