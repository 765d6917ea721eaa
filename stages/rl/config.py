"""Settings of an `rl` stage. A preset names the pieces; any field that is not None overrides it."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.config.schema import OptimConfig, Schedule, TrainStageConfig


def _optim() -> OptimConfig:
    # Measured to learn on the embedded models: a tenth of the SFT rate, short warm-up, cosine to a fifth.
    return OptimConfig(lr=1e-4, warmup_steps=5, schedule=Schedule.cosine, min_lr_ratio=0.2, weight_decay=0.0, checkpoint_every=20)


@dataclass
class RlConfig(TrainStageConfig):
    """Reinforcement learning from the pack's verifiers. One step = one set of rollouts and its updates."""

    kind: str = "rl"
    optim: OptimConfig = field(default_factory=_optim)
    preset: str = "dapo_oversample"
    """`grpo`, `dr_grpo`, `dapo` or `dapo_oversample`: a row of factory/stages/rl/presets.py."""
    num_steps: int = 100
    samples: int = 2000
    """Size of the pool of training prompts; it is gone through as often as needed."""
    prompts_per_step: int = 16
    """Groups trained on per step, at most."""
    group_size: int = 8
    """Rollouts per prompt."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all tokens."""
    max_new_tokens: int = 64
    engine: str = "transformers"
    """Who generates: `transformers`, or `recorded:FILE.jsonl` (a fixed set of rollouts, for tests)."""
    prompts_per_generation: int = 0
    """Prompts decoded together on one process; 0 means all of the process's share."""
    updates_per_rollout: int = 1
    """Passes over the rollouts of a step."""
    minibatches: int = 1
    """Optimiser steps per pass."""

    # From here on: None takes the preset's value.
    advantage: str | None = None
    """`group_std`, `group_mean` or `none`."""
    std_eps: float | None = None
    """Added to the standard deviation, in reward units."""
    aggregator: str | None = None
    """`token_mean`, `seq_mean_token_mean` or `constant_length`."""
    eps_low: float | None = None
    eps_high: float | None = None
    dual_clip: float | None = None
    """Bound c > 1 on the loss of tokens with negative advantage; 0 is off."""
    kl_coef: float | None = None
    """0 keeps no reference model at all."""
    kl_estimator: str | None = None
    """`k1`, `k2` or `k3`."""
    kl_in: str | None = None
    """`loss`, or `reward` (subtracted from the rollout's reward, summed over its tokens)."""
    kl_unbiased: bool | None = None
    """Multiply the KL in the loss by the ratio policy/sampler, which makes k3's gradient that of the KL (DeepSeek-V3.2)."""
    entropy_coef: float | None = None
    """Weight of the entropy bonus."""
    drop_equal: bool | None = None
    """Drop groups whose rewards are all equal."""
    oversample: float | None = None
    """Prompts drawn = oversample x prompts_per_step. Setting it above 1 replaces the preset's refills."""
    max_refills: int | None = None
    """Dynamic sampling: further draws allowed per step. Setting it replaces the preset's oversampling."""
    on_spent: str | None = None
    """When too few groups are left: `error`, `train_smaller` or `stop`."""
    overlong_filter: bool | None = None
    """A truncated rollout keeps its reward in the group and gets no gradient."""
    overlong_cache: int | None = None
    """Tokens before max_new_tokens over which the reward falls; 0 is off."""
    overlong_factor: float | None = None
    """Most that the soft punishment takes away, in reward units."""
