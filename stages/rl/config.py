"""Settings of an `rl` stage. A preset names the pieces; `pieces` changes them, slot by slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from factory.config.schema import OptimConfig, Schedule, TrainStageConfig


def _optim() -> OptimConfig:
    # Measured to learn on the embedded models: a tenth of the SFT rate, short warm-up, cosine to a fifth.
    return OptimConfig(lr=1e-4, warmup_steps=5, schedule=Schedule.cosine, min_lr_ratio=0.2, weight_decay=0.0, checkpoint_every=20)


@dataclass
class RlConfig(TrainStageConfig):
    """Reinforcement learning from the pack's verifiers. One step = one set of rollouts and its updates."""

    kind: str = "rl"
    optim: OptimConfig = field(default_factory=_optim)
    preset: str = "dapo_plain"
    """A row of stages/rl/presets.yaml; `factory pieces presets` lists them."""
    pieces: dict[str, Any] = field(default_factory=dict)
    """Changes to the preset: slot -> piece name, or slot -> {piece: {setting: value}}; null takes a piece out.
    `--set stages.rl.pieces.loss.clip.eps_high=0.28`. `factory pieces list` shows slots and pieces."""
    num_steps: int = 100
    samples: int = 2000
    """Size of the pool of training prompts; it is gone through as often as needed."""
    prompts_from: str = ""
    """Where prompts come from: "" the pack's samples, `lessons` the samples of its lessons (which then are demonstrations),
    or the name of an earlier `select` stage, whose kept prompts and pass rates are used."""
    tasks: list[str] = field(default_factory=list)
    """Only prompts of these tasks; empty for all."""
    media: str = "any"
    """Only prompts without images (`text`), only those with (`images`), or `any`."""
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
    """Who generates: `transformers`, `vllm` (a server in its own environment; settings: `launch.vllm`), `recorded:FILE.jsonl` (a fixed set of rollouts, for tests), or an installed engine's `NAME[:ARGUMENT]`."""
    prompts_per_generation: int = 0
    """Prompts decoded together on one process; 0 means all of the process's share."""
    one_step_off: bool = False
    """Write the next step's rollouts while this step trains: every rollout is then one step older than the weights it trains.
    Saves time with `engine=vllm`; see stages/rl/one_step_off.py."""
    updates_per_rollout: int = 1
    """Passes over the rollouts of a step."""
    minibatches: int = 1
    """Optimiser steps per pass."""
