"""The settings of a build as dataclasses. OmegaConf checks every layer against them; only dataclasses leave `factory.config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class Precision(str, Enum):
    """Number format of weights and activations."""

    fp32 = "fp32"
    bf16 = "bf16"


class Schedule(str, Enum):
    """Learning-rate curve after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class AdapterKind(str, Enum):
    """Which weights a stage trains."""

    none = "none"
    lora = "lora"
    dora = "dora"


class OnBadRow(str, Enum):
    """What a loader does with a malformed row."""

    quarantine = "quarantine"
    stop = "stop"


@dataclass
class AdapterConfig:
    """Train all weights (`none`) or low-rank updates through peft."""

    kind: AdapterKind = AdapterKind.none
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str = "all-linear"
    """A peft target: `all-linear`, or module names joined by commas."""


@dataclass
class OptimConfig:
    """How the Learner steps. One optimiser step uses `batch_size` rows whatever the micro-batch or process count."""

    lr: float = 1e-4
    vision_lr_scale: float = 1.0
    """Learning rate of the vision tower and its projector, as a multiple of `lr`; 0 freezes them."""
    projector_lr_scale: float | None = None
    """The same for the projector alone; null gives it the vision tower's."""
    language_lr_scale: float = 1.0
    """The same for the language model; 0 freezes it (shallow alignment)."""
    warmup_steps: int = 10
    schedule: Schedule = Schedule.cosine
    min_lr_ratio: float = 0.1
    """Last learning rate as a share of `lr`."""
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    micro_batch_size: int = 0
    """Rows per forward on one process; 0 means the whole share of the process at once."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = 50
    """Optimiser steps between exact-resume checkpoints; 0 keeps none."""


@dataclass
class StageConfig:
    """What every stage has. A stage kind adds its own fields."""

    kind: str = MISSING
    start: str | None = None
    """Stage whose model this one continues; by default the last stage before it that is not a control, else the base."""
    reads: list[str] = field(default_factory=list)
    """Earlier stages whose files (lessons, pairs, prompts, weights) this one reads; it finds their folders in `ctx.inputs`."""
    control: bool = False
    """A control is measured and reported but never chosen as the build's result, and no later stage starts from it by default."""


@dataclass
class TrainStageConfig(StageConfig):
    """A stage that trains."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)


@dataclass
class DataConfig:
    """The user's data. No paths: the pack generates its own."""

    paths: list[str] = field(default_factory=list)
    on_bad_row: OnBadRow = OnBadRow.quarantine
    max_bad_fraction: float = 0.05


@dataclass
class PoolConfig:
    """The isolated verifier workers."""

    workers: int = 1
    timeout_s: float = 10.0
    """Wall seconds for one call of one verifier; then its worker is killed and the verdict is `timeout`."""
    memory_mib: int = 2048
    max_error_rate: float = 0.05
    """Above this share of `error`+`timeout` verdicts the run stops."""
    network: bool = False
    """Let verifiers use the network (a judge behind an endpoint needs it). Off: workers have none."""
    cache_mib: int = 256
    """Size of the verdict cache under FACTORY_HOME/cache, shared by all runs of this machine. 0: none."""


@dataclass
class EvalConfig:
    """The held-out measurement made on the base and after every stage."""

    samples: int = 800
    """Test samples: reported, never used to choose anything."""
    validation_samples: int = 400
    """Validation samples: used to choose the best stage."""
    batch_size: int = 64
    max_new_tokens: int = 64
    blind: bool = True
    """Also measure with every image replaced by a blank one, as a control."""
    probes: bool = True
    seed: int = 20_000
    bootstrap: int = 2000
    """Resamples of the paired bootstrap intervals."""
    deliberate: str = ""
    """Also answer with more effort and compare: `majority:8`, `best_of:8,verifier=NAME` … (`factory eval --deliberate`)."""


@dataclass
class LaunchConfig:
    """Processes of each training stage on this machine."""

    launcher: str = "local"
    """Who starts them: `local`, or a launcher of an installed package."""
    processes: int = 1
    zero_stage: int = -1
    """DeepSpeed ZeRO stage 0-3; -1 means plain DDP (or one process)."""
    threads: int = 1
    """OpenMP threads per process on CPU."""


@dataclass
class BuildConfig:
    """One build. `stages` is a dict by name; each value is checked against the schema of its kind."""

    domain: str = MISSING
    recipe: str = "embedded"
    base: str = ""
    """`embedded-text`, `embedded-vl`, a folder, or (with --online) a hub id. Empty: the embedded base of the pack's modality."""
    revision: str | None = None
    online: bool = False
    """Allow the network (hub ids). Off by default: data and model stay in the building."""
    seed: int = 0
    precision: Precision = Precision.fp32
    data: DataConfig = field(default_factory=DataConfig)
    pack: dict[str, Any] = field(default_factory=dict)
    """The pack's own options."""
    mixture: dict[str, dict[str, float]] = field(default_factory=dict)
    """Overrides of the pack's mixture: task -> verifier -> weight."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    judges: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Judges and reward models by name, for use in `mixture`; settings: `factory.rewards.judges.settings.JudgeSettings`."""
    watch: dict[str, Any] = field(default_factory=dict)
    """How verifiers are watched during RL; settings: `factory.rewards.watch.WatchSettings`."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    stages: dict[str, Any] = field(default_factory=dict)
