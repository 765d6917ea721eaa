"""How long and how big: the formulas behind the figures of `factory plan`. Estimates within a factor of about two, said as such.

    seconds = start · START_S + work · (steps · overhead + 6 · N · trained tokens / training rate + 2 · N · sampled tokens / sampling rate)

N is the number of parameters; 6·N and 2·N floating-point operations per token are the usual counts for forward plus backward and
for forward alone (arXiv 2001.08361, section 2.1). Rates come from the table below; `start` and `work` are what finished steps teach
(`calibration.py`). Measured on CPU are the worker's CPU seconds: the time that the step takes on a machine that is free for it, and
the same on one that is not.

    memory of a process on CPU = libraries and pack + the stage's own formula (weights, gradients, moments, activations)

On a GPU the figure is the GPU's memory, by the stage's formula alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import ModelFacts, StagePlan
from factory.pipeline.calibration import START_S, Calibration, Factors

_MIB = 2**20
_BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True)
class Device:
    """What one process computes on, in round figures."""

    name: str
    train_flops: float
    """Useful floating-point operations per second in training."""
    sample_flops: float
    """The same in token-by-token sampling."""
    step_overhead_s: float
    source: str


CPU_THREAD = Device(
    "cpu-1-thread", 40e9, 15e9, 0.02,
    "measured on one AVX-512 thread: 0.59 M parameters, 13 k trained and 13 k sampled tokens/s; 1.08 M, 6.5 k trained",
)  # fmt: skip
GPU = Device(
    "gpu", 2e14, 4e12, 0.15,
    "assumed, not measured: an 80 GB data-centre GPU at about 20 % of 1e15 bf16 FLOP/s in training; sampling is bound by memory",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Time of one step, with the formula filled in."""

    seconds: float
    formula: str


def device_for(num_gpus: int) -> Device:
    """The row of the table for this machine."""
    return GPU if num_gpus else CPU_THREAD


def work_s(plan: StagePlan, facts: ModelFacts, device: Device, *, processes: int = 1) -> float:
    """Uncalibrated seconds of one step after its start."""
    return estimate(plan, facts, device, processes=processes).seconds - START_S


def busy_s(lock: Mapping[str, Any], device: Device) -> float:
    """Seconds that a finished step was at work: on CPU its CPU seconds, which a busy machine does not lengthen; else wall time."""
    seconds: float = lock["seconds"]
    return min(seconds, lock.get("usage", {}).get("cpu_s", seconds)) if device.name == CPU_THREAD.name else seconds


def process_bytes(calibration: Calibration, device: Device, kind: str, pack: str) -> int:
    """Main memory of one process of a step beside its model; 0 on a GPU, where the plan tells the GPU's memory."""
    return calibration.process_bytes(device.name, kind, pack) if device.name == CPU_THREAD.name else 0


def process_mib(device: Device, *, model: int, usage: Mapping[str, float]) -> float | None:
    """MiB of a finished step's process on CPU beside its model (estimated, bytes).

    None when the model's own estimate is most of it: its error would be taken for the libraries.
    """
    peak = usage.get("peak_bytes", 0)
    return (peak - model) / _MIB if device.name == CPU_THREAD.name and model <= peak / 2 else None


def estimate(
    plan: StagePlan, facts: ModelFacts, device: Device, *, processes: int = 1, factors: Factors | None = None
) -> Estimate:
    """Seconds of one step on `processes` equal devices, scaled by `factors`."""
    known = factors or Factors()
    train = 6.0 * facts.num_params * plan.num_tokens / (device.train_flops * processes)
    sample = 2.0 * facts.num_params * plan.num_generated_tokens / (device.sample_flops * processes)
    formula = (
        f"{known.start:.3g} x {START_S:g} s + {known.work:.3g} x ({plan.num_steps} steps x {device.step_overhead_s:g} s"
        f" + 6 x {facts.num_params:,} x {plan.num_tokens:,} tokens / ({device.train_flops:.3g} FLOP/s x {processes})"
        f" + 2 x {facts.num_params:,} x {plan.num_generated_tokens:,} sampled / ({device.sample_flops:.3g} FLOP/s x {processes}))"
    )
    return Estimate(known.seconds(plan.num_steps * device.step_overhead_s + train + sample), formula)


def disk_bytes(facts: ModelFacts, *, precision: str, role: str, is_in_place: bool, adapter_rank: int | None) -> int:
    """Bytes a step needs while it runs: its model, and for training a checkpoint of weights and two Adam moments in fp32.

    A checkpoint is replaced only after the next is complete, so two are counted. Adapters: as in `stages.models.facts`, about
    rank x hidden x 23 parameters per layer. Evals: 1 KiB for each sampled answer is below a megabyte and left out.
    """
    if role == "eval" or (role == "base" and is_in_place):
        return 0
    if role == "base":
        return facts.num_params * 4
    trained = facts.num_params
    if adapter_rank is not None:
        trained = min(trained, facts.num_layers * adapter_rank * facts.hidden_size * 23)
    kept = trained * (4 if adapter_rank is not None else _BYTES[precision])
    return kept + 2 * 3 * 4 * trained
