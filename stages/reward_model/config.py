"""Settings of a `reward_model` stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from factory.config.schema import TrainStageConfig


@dataclass
class RewardModelConfig(TrainStageConfig):
    """A scorer trained on pairs of responses. One step = `batch_size` pairs."""

    kind: str = "reward_model"
    pairs_from: str = ""
    """Empty: the pack's own pairs. Else an earlier stage that makes pairs (`select`), or a file of pairs (ours, or TRL's preference form)."""
    pack: dict[str, Any] = field(default_factory=dict)
    """Options of the pack for this stage's own pairs, laid over the build's `pack.*`: a cost and a reward model of one build may ask for other pairs."""
    pairs: int = 3000
    """Pairs that are read, held-out ones included. Fewer in the source: all of them."""
    epochs: int = 1
    batch_size: int = 32
    """Pairs per optimiser step, over all processes. `optim.micro_batch_size` counts rows, and a pair is two."""
    objective: str = "bradley_terry"
    """`bradley_terry`: the chosen response scores higher. `cost`: the rejected one costs more, and unsafe costs more than 0."""
    show_reference: bool = False
    """Also show the scorer the sample's reference and caption (Fact-RLHF), in training and in use."""
    shape: str = ""
    """Output shape, such as `think_answer`, whose answer alone is shown to the scorer, in training and in use: reasoning cannot talk it over.
    Empty: the whole response."""
    holdout: float = 0.1
    """Share of the samples whose pairs are only measured, never trained on; 0 measures nothing."""
    max_length: int = 2048
    """Tokens of prompt and response together. The end of a longer response is cut off and counted; one with images is refused."""
    cache_mb: int = 512
    """MiB of encoded pairs that each process keeps in memory for later epochs; what finds no room is encoded again. 0 keeps none."""
