"""A model in memory with the codec that speaks its language, and where both came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from factory.stages.models.codec import Codec


@dataclass(eq=False)
class LoadedModel:
    """A model and the codec that speaks its language."""

    model: Any
    """A transformers model, or a peft model around one when `adapter` is True."""
    codec: Codec
    modality: str
    """`text`, `vl` or `dna`."""
    adapter: bool
    source: Path
    """The folder it was loaded from."""
    base: Path
    """The folder that holds the full weights; `source` itself unless that is an adapter folder."""
    earlier: tuple[Path, ...] = field(default=())
    """Adapter folders already merged into the weights, in order."""
    experts: Any = None
    """`experts.Experts` when the folder has some: `model` is then what they stand on, and `generate` asks them first."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device
