"""Settings of a `preference` stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.config.schema import OptimConfig, TrainStageConfig


@dataclass
class PreferenceConfig(TrainStageConfig):
    """Preference training on pairs of responses. One step = `batch_size` pairs."""

    kind: str = "preference"
    pairs_from: str = ""
    """Empty: the pack's own pairs. Else an earlier stage that makes pairs (`select`), or a file of pairs (ours, or TRL's preference form)."""
    pairs: int = 3000
    """Pairs of one epoch. Fewer in the source: all of them."""
    epochs: int = 1
    batch_size: int = 32
    """Pairs per optimiser step, over all processes. `optim.micro_batch_size` counts rows, and a pair is two."""
    loss: str = "dpo"
    """`dpo`, `ipo`, `ipo_sum`, `bco`, `mpo`, `mpo_trl` or `rpo`."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weights of terms, by name, in place of the loss's own; a term that the loss does not have is added."""
    beta: float = 0.1
    """How strongly the policy is held to the reference: rewards are beta times the difference of log-probabilities."""
    delta: str = ""
    """Shift of the BCO term: `running_mean` or `none`. Empty: what the loss says."""
    max_length: int = 2048
    """Tokens of prompt and response together. The end of a longer response is cut off and counted; one with images is refused."""
    cache_mb: int = 512
    """MiB of encoded pairs that each process keeps in memory for later epochs; what finds no room is encoded again. 0 keeps none."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-6))
    """5e-6 is the rate of Skywork's and InternVL's MPO; small models and adapters take more."""
