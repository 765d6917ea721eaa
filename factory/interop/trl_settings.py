"""Settings of our stages in TRL's words, and what has no word there. Refuses what would train something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.errors import ConfigError

LOSS_TYPES = {"seq_mean_token_mean": "grpo", "token_mean": "dapo", "constant_length": "dr_grpo"}
"""Our aggregator -> TRL's loss_type."""
SCALES = {"group_std": "group", "group_mean": "none"}
"""Our advantage -> TRL's scale_rewards."""


def _common(run: str, stage: str, config: Any, build: Mapping[str, Any], is_vl: bool) -> dict[str, Any]:
    optim = config.optim
    return {
        "run": run, "stage": stage, "seed": build["seed"], "bf16": str(build["precision"]) == "bf16", "is_vl": is_vl,
        "auto_class": "AutoModelForImageTextToText" if is_vl else "AutoModelForCausalLM", "lr": optim.lr,
        "warmup_steps": optim.warmup_steps, "min_lr_ratio": optim.min_lr_ratio, "beta1": optim.beta1, "beta2": optim.beta2,
        "weight_decay": optim.weight_decay, "clip_norm": optim.clip_norm,
    }  # fmt: skip


def sft_settings(
    run: str, stage: str, config: Any, build: Mapping[str, Any], *, is_vl: bool, is_adapter: bool
) -> tuple[dict[str, Any], list[str]]:
    """What the sft template asks for, and notes on where the script cannot follow the stage."""
    optim, bf16 = config.optim, str(build["precision"]) == "bf16"
    micro, notes = optim.micro_batch_size or config.batch_size, []
    if config.batch_size % micro:
        notes.append(f"micro-batches of {micro} do not divide {config.batch_size}; the script takes the whole batch at once")
        micro = config.batch_size
    if build["launch"]["processes"] > 1:
        notes.append("the stage ran on several processes; the script is for one")
    if config.adapter.dropout and is_adapter:
        notes.append("adapter dropout is random: the curve is close, not equal")
    found = {
        **_common(run, stage, config, build, is_vl), "epochs": config.epochs, "batch_size": config.batch_size, "micro_batch": micro,
        "max_length": config.max_length, "schedule": str(optim.schedule.value), "adapter": is_adapter,
        "language_lr_scale": optim.language_lr_scale, "vision_lr_scale": optim.vision_lr_scale,
        "projector_lr_scale": optim.projector_lr_scale, "gradient_checkpointing": optim.gradient_checkpointing,
        # Trained weights are kept in float32 and run under autocast, as in the stage; frozen ones under an adapter are not.
        "dtype": "bfloat16" if bf16 and is_adapter else "float32",
    }  # fmt: skip
    return found, notes


def grpo_settings(run: str, stage: str, config: Any, build: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the GRPO template asks for, and what of the stage is not in it.

    Raises:
        ConfigError: an advantage, loss or aggregator that TRL has no setting for.
    """
    from factory.stages.rl.presets import resolve

    chosen = resolve(config)
    by_slot: dict[str, list[str]] = {}
    for key in chosen.made:
        slot, name = key.split(".", 1)
        by_slot.setdefault(slot, []).append(name)
    advantage, loss, aggregator = (by_slot.get(slot, [""]) for slot in ("advantage", "loss", "aggregator"))
    ours = {"advantage": (advantage, SCALES), "loss": (loss, {"clip": "", "gspo": ""}), "aggregator": (aggregator, LOSS_TYPES)}
    for slot, (names, known) in ours.items():
        if len(names) != 1 or names[0] not in known:
            raise ConfigError(
                f"{stage}: TRL has no setting for {slot} {'+'.join(names) or 'none'}; known are {', '.join(known)}. "
                "Choose a preset of these (grpo, dr_grpo, dapo, gspo), or train it here."
            )
    clip = chosen.made[f"loss.{loss[0]}"]
    kl = next((chosen.made[f"kl.{name}"].coef for name in by_slot.get("kl", []) if name == "k3"), 0.0)
    taken = {f"advantage.{advantage[0]}", f"loss.{loss[0]}", f"aggregator.{aggregator[0]}", "kl.k3", "resample.overlong_filter"}
    notes = [f"left out, because TRL has no such piece: {key}" for key in chosen.made if key not in taken]
    if config.minibatches > 1:
        notes.append(f"the stage makes {config.minibatches} optimiser steps per pass, the script one")
    if build["launch"]["processes"] > 1:
        notes.append("the stage ran on several processes; the script is for one")
    if config.adapter.kind.value != "none":
        notes.append("the stage trains an adapter; the script trains all weights (give GRPOTrainer a peft_config for an adapter)")
    schedule = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}[config.optim.schedule.value]
    return {
        **_common(run, stage, config, build, False), "notes": notes, "domain": build["domain"], "num_steps": config.num_steps,
        "group_size": config.group_size, "batch": config.prompts_per_step * config.group_size, "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature, "top_p": config.top_p, "top_k": config.top_k, "updates": config.updates_per_rollout,
        "schedule": schedule, "loss_type": LOSS_TYPES[aggregator[0]], "scale_rewards": SCALES[advantage[0]],
        "eps_low": clip.eps_low, "eps_high": clip.eps_high, "level": "sequence" if loss[0] == "gspo" else "token", "beta": kl,
        "mask_truncated": "overlong_filter" in by_slot.get("resample", []),
    }, notes  # fmt: skip
