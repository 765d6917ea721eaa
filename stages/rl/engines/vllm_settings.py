"""What `engine: vllm` takes, refuses and costs, known before anything is started. No torch at import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from factory.config.schema import VllmConfig
from factory.contracts import ModelFacts, RunContext
from factory.errors import ConfigError

if TYPE_CHECKING:
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.engines.vllm import VllmPlace

FOLDER = "vllm"
"""In the stage's work folder: weights on their way to the server, and the server's log."""
_KV_CPU_BYTES = 1 << 30


def check_vllm(stage: str, config: RlConfig, modality: str) -> None:
    """Refuse what the engine cannot do. Raises ConfigError."""
    if modality != "text":
        raise ConfigError(
            f"stages.{stage}.engine=vllm generates for text bases only, this one is '{modality}'. Set engine=transformers."
        )
    if str(getattr(config.adapter.kind, "value", config.adapter.kind)) == "dora":
        raise ConfigError(
            f"stages.{stage}.engine=vllm: vLLM serves no DoRA adapters. Set adapter.kind=lora, or engine=transformers."
        )
    if config.temperature <= 0:
        raise ConfigError(
            f"stages.{stage}.temperature={config.temperature:g}: engine=vllm needs a positive temperature to learn from."
        )
    if config.temperature != 1.0 and (config.top_p < 1.0 or config.top_k):
        raise ConfigError(
            f"stages.{stage}: engine=vllm returns log-probs before top_p and top_k cut only at temperature 1. "
            f"Set temperature=1, or top_p=1 and top_k=0 (now {config.temperature:g}, {config.top_p:g}, {config.top_k})."
        )


def settings_of(build: Mapping[str, Any]) -> VllmConfig:
    """`launch.vllm` of a build as its dataclass; the defaults where a build has none."""
    plain = (build.get("launch") or {}).get("vllm") or {}
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(VllmConfig), plain))  # type: ignore[return-value]


def vllm_notes(config: RlConfig, facts: ModelFacts, build: Mapping[str, Any]) -> tuple[str, ...]:
    """What the plan says of the server: where it runs and the memory it takes beside the training process."""
    settings = settings_of(build)
    if settings.url:
        return (f"rollouts by the vLLM server at {settings.url}; its memory is not counted here",)
    width = 2 if str(getattr(build.get("precision"), "value", build.get("precision", "fp32"))) == "bf16" else 4
    weights = facts.num_params * width
    return (
        "rollouts by a vLLM server of its own process, started with the stage. On a CPU it takes, beside the figure above, about "
        f"weights {facts.num_params:,} x {width} B + cache {_KV_CPU_BYTES >> 30} GiB (VLLM_CPU_KVCACHE_SPACE) + 1.5 GiB of libraries = "
        f"{(weights + _KV_CPU_BYTES + (3 << 29)) / 2**30:.1f} GiB; on a GPU it takes {settings.gpu_memory_share:.0%} of its memory "
        "(launch.vllm.gpu_memory_share)" + (", which it gives up while the policy is trained" if settings.sleep else ""),
    )


def place_of(config: RlConfig, ctx: RunContext) -> VllmPlace:
    """Where and how the engine of this stage runs."""
    from factory.stages.rl.engines.vllm import VllmPlace

    launch = ctx.build.get("launch") or {}
    precision = ctx.build.get("precision", "fp32")
    return VllmPlace(
        folder=(ctx.workdir / FOLDER).absolute(), settings=settings_of(ctx.build), precision=str(getattr(precision, "value", precision)),
        temperature=config.temperature, threads=int(launch.get("threads", 1)),
    )  # fmt: skip
