"""Settings of a `cpt` stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.config.schema import TrainStageConfig


@dataclass
class CptConfig(TrainStageConfig):
    """Continued pretraining on documents. One step = `batch_size` documents, however they are packed."""

    kind: str = "cpt"
    documents: int = 5000
    """Documents of one epoch, general ones included. Fewer on disk: all of them."""
    epochs: int = 1
    batch_size: int = 32
    """Documents per optimiser step, over all processes."""
    pack_length: int = 1024
    """Tokens of one row; texts are packed into rows, longer ones cut into several. 0 gives each text a row of its own.
    A document with images has a row of its own and must fit."""
    general_share: float = 0.0
    """Share of general documents among `documents`, against forgetting; they come from `general_paths`."""
    general_paths: list[str] = field(default_factory=list)
    """Tables (jsonl, csv, parquet, ...) with a `text` field. None: no general documents, whatever the share."""
    cache_mb: int = 512
    """MiB of encoded documents that each process keeps in memory for later epochs; what finds no room is encoded again. 0 keeps none."""
