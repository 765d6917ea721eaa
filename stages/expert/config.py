"""Settings of an `expert` stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.config.schema import AdapterConfig, AdapterKind
from factory.stages.sft.config import SftConfig


@dataclass
class ExpertConfig(SftConfig):
    """An expert for one of the build's packs (SEE, arXiv 2504.06664). Lessons of the others teach it what to pass on: their share is
    `--mix`. The paper's ratios are not published; a fifth is a sound start."""

    kind: str = "expert"
    accepts: str = ""
    """The pack whose questions it answers; empty: the build's first."""
    adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(kind=AdapterKind.lora))
    held_out: int = 96
    """Validation samples by which it is told, in the stage's figures, how much of each pack the expert accepts; 0: none."""
