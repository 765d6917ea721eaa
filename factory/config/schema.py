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


class IntendedUse(str, Enum):
    """What the model is meant for, as its builder says."""

    unstated = "unstated"
    research = "research"
    commercial = "commercial"


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
    bad_steps: int = 3
    """A step whose loss or gradient is not finite is skipped and counted; so many in a row roll the stage back to its last checkpoint."""
    max_rollbacks: int = 2
    """Rollbacks before the stage stops."""
    rollback_lr_scale: float = 0.5
    """Each rollback multiplies the learning rates of the rest of the stage by this."""
    spike_ratio: float = 0.0
    """A gradient norm above so many times its running median counts as bad too; 0: none does."""


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
    licence: str = ""
    """Licence of `paths` as their owner states it, such as CC-BY-NC-4.0. It goes into the model card; empty: unknown."""


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
class VllmConfig:
    """The server behind `engine: vllm` of RL stages. vLLM lives in an environment of its own; `factory doctor` says how to make it."""

    python: str = ""
    """Python of that environment. Empty: $FACTORY_VLLM_PYTHON, else FACTORY_HOME/vllm/bin/python."""
    url: str = ""
    """`http://HOST:PORT` of a running server to use instead of starting one. It must see the run's folder under the same path and run
    with VLLM_SERVER_DEV_MODE=1 (and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True for adapters)."""
    gpu_memory_share: float = 0.4
    """Share of each GPU's memory that the server may take."""
    tensor_parallel: int = 1
    """GPUs that share the server's model."""
    sleep: bool = True
    """On a GPU: the server gives its memory up while the policy is trained."""
    ready_timeout_s: float = 900.0
    """Wall seconds for a start of the server."""
    request_timeout_s: float = 600.0
    """Wall seconds for one call: all completions of one prompt, or one load of weights. A server silent for longer is restarted."""
    restarts: int = 2
    """How often a dead or silent server is started again in one stage."""
    canary_nats: float = 0.0
    """Largest allowed gap between the server's and the policy's log-probs of a fixed prompt after each update of the weights.
    0: 1e-4 in fp32, 0.1 in bf16."""
    arguments: list[str] = field(default_factory=list)
    """Further arguments of the server's command line."""


@dataclass
class LaunchConfig:
    """Processes of each training stage on this machine."""

    launcher: str = "local"
    """Who starts them: `local`, or a launcher of an installed package."""
    processes: int = 1
    zero_stage: int = -1
    """DeepSpeed ZeRO stage 0-3; -1 means plain DDP (or one process)."""
    fsdp: bool = False
    """Split weights, gradients and optimiser with torch's FSDP2 in place of DeepSpeed: as far as ZeRO 3 does, with nothing to compile."""
    deepspeed: str = ""
    """Template of DeepSpeed's settings (`zero1`, `zero2`, `zero2-offload`, `zero3`, `zero3-offload`, `zero3-nvme`), a file of your own
    that ends in .json, or `auto`: the plan takes the first that fits the device's memory and sets `zero_stage`. Empty: that of `zero_stage`."""
    nvme_path: str = ""
    """Folder on a fast disk, for `zero3-nvme`."""
    device_gib: float = 0.0
    """Memory of one GPU that `auto` may fill, GiB. 0: ask nvidia-smi; without a GPU a process's share of the free memory."""
    threads: int = 1
    """OpenMP threads per process on CPU."""
    fork: bool = True
    """On Linux without GPUs, fork the worker of a step from a process that has its libraries loaded. False: start each anew, which takes
    seconds of imports; for a pack or stage kind that does not bear a fork."""
    collective_timeout_s: float = 1800.0
    """Wall seconds that processes wait for one that does not come; then the stage ends and names it and what it was doing."""
    vllm: VllmConfig = field(default_factory=VllmConfig)


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
    intended_use: IntendedUse = IntendedUse.unstated
    """`commercial` refuses a base or data whose declared terms forbid it."""
    licence_override: str = ""
    """Why such a conflict is none here, in writing; it is kept in the lineage and the model card."""
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
