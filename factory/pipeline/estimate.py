"""How long and how big: the formulas behind the figures of `factory plan`. Estimates within a factor of about two, said as such.

    seconds = start · START_S + work · (steps · overhead + 6 · N · trained tokens / training rate + 2 · N · sampled tokens / sampling rate)

N is the number of parameters; 6·N and 2·N floating-point operations per token are the usual counts for forward plus backward and
for forward alone (arXiv 2001.08361, section 2.1). Rates come from the table below until this machine has finished a step of the
same kind (until then `FIRST`); then they are scaled by medians of measured / estimated seconds, kept in
`$FACTORY_HOME/cache/calibration.json`: `start` from steps that do little else, `work` from the others, of the same pack where there are
any. One factor for both would let a build of seconds spoil the estimate of one of hours. Measured on CPU are the worker's CPU seconds: the time
that the step takes on a machine that is free for it, and the same on one that is not.

    memory of a process on CPU = process_mib + the stage's own formula (weights, gradients, moments, activations)

`process_mib`, the libraries and the pack, is learned the same way. On a GPU the figure is the GPU's memory, by the stage's formula alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.contracts import ModelFacts, StagePlan
from factory.errors import RegistryError
from factory.registry.files import read_json, write_json

START_S = 6.0
"""Start of a worker: imports of torch and transformers, load of model and pack."""
FIRST = {
    "cpu-1-thread/base/start": 2.5,
    "cpu-1-thread/cpt/work": 0.6,
    "cpu-1-thread/sft/work": 0.18,
    "cpu-1-thread/rl/work": 0.25,
}
"""Measured / estimated seconds of the embedded pathology recipe (docs/log.md), used until this machine has its own. Well below 1,
because planned tokens are upper limits: whole answers, longest lessons."""
LEAST = 0.01
"""A ratio below this is the clock's noise."""
PROCESS_MIB = 410.0
"""Main memory of a process on CPU beside its model (interpreter, libraries, pack), until this machine has its own; 345 to 440 were
measured over the steps of pathology."""
_MIB = 2**20
KEPT = 9
"""Ratios kept per device and kind."""
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


@dataclass(frozen=True)
class Factors:
    """What this machine has taught about one kind of step."""

    start: float = 1.0
    work: float = 1.0


def factors(calibration: Mapping[str, float], device: str, kind: str, pack: str) -> Factors:
    """The factors of a kind of step: of this pack, else of all packs, else of the embedded recipes (`FIRST`)."""

    def first_of(*keys: str) -> float:
        known = {**FIRST, **calibration}
        return next((known[key] for key in keys if key in known), 1.0)

    return Factors(
        first_of(f"{device}/{kind}/start/{pack}", f"{device}/{kind}/start", f"{device}/start"),
        first_of(f"{device}/{kind}/work/{pack}", f"{device}/{kind}/work"),
    )


def work_s(plan: StagePlan, facts: ModelFacts, device: Device, *, processes: int = 1) -> float:
    """Uncalibrated seconds of one step after its start."""
    return estimate(plan, facts, device, processes=processes).seconds - START_S


def learned(device: str, kind: str, pack: str, *, work: float, seconds: float, start: float) -> dict[str, float]:
    """What one finished step teaches, for `add_calibration`.

    Args:
        work: its uncalibrated seconds after the start.
        seconds: measured.
        start: the factor of the start so far.
    """
    if work < START_S:
        ratio = max(LEAST, seconds / (START_S + work))
        return {f"{device}/{kind}/start": ratio, f"{device}/{kind}/start/{pack}": ratio, f"{device}/start": ratio}
    ratio = max(LEAST, (seconds - start * START_S) / work)
    return {f"{device}/{kind}/work": ratio, f"{device}/{kind}/work/{pack}": ratio}


def busy_s(lock: Mapping[str, Any], device: Device) -> float:
    """Seconds that a finished step was at work: on CPU its CPU seconds, which a busy machine does not lengthen; else wall time."""
    seconds: float = lock["seconds"]
    return min(seconds, lock.get("usage", {}).get("cpu_s", seconds)) if device.name == CPU_THREAD.name else seconds


def process_bytes(calibration: Mapping[str, float], device: Device, kind: str, pack: str) -> int:
    """Main memory of one process of a step beside its model; 0 on a GPU, where the plan tells the GPU's memory."""
    if device.name != CPU_THREAD.name:
        return 0
    keys = (f"{device.name}/{kind}/process_mib/{pack}", f"{device.name}/{kind}/process_mib")
    mib = next((calibration[key] for key in keys if key in calibration), PROCESS_MIB)
    return int(mib * _MIB)


def learned_memory(device: Device, kind: str, pack: str, *, model: int, usage: Mapping[str, float]) -> dict[str, float]:
    """What one finished step teaches of the memory of a process on CPU, for `add_calibration`.

    Nothing when the model's own estimate (`model`, bytes) is most of it: its error would be taken for the libraries.
    """
    peak = usage.get("peak_bytes", 0)
    if device.name != CPU_THREAD.name or model > peak / 2:
        return {}
    mib = (peak - model) / _MIB
    return {f"{device.name}/{kind}/process_mib": mib, f"{device.name}/{kind}/process_mib/{pack}": mib}


def estimate(
    plan: StagePlan, facts: ModelFacts, device: Device, *, processes: int = 1, calibration: float = 1.0, start: float = 1.0
) -> Estimate:
    """Seconds of one step on `processes` equal devices; `calibration` scales its work, `start` its start."""
    train = 6.0 * facts.num_params * plan.num_tokens / (device.train_flops * processes)
    sample = 2.0 * facts.num_params * plan.num_generated_tokens / (device.sample_flops * processes)
    seconds = start * START_S + calibration * (plan.num_steps * device.step_overhead_s + train + sample)
    formula = (
        f"{start:.2f} x {START_S:g} s + {calibration:.2f} x ({plan.num_steps} steps x {device.step_overhead_s:g} s"
        f" + 6 x {facts.num_params:,} x {plan.num_tokens:,} tokens / ({device.train_flops:.3g} FLOP/s x {processes})"
        f" + 2 x {facts.num_params:,} x {plan.num_generated_tokens:,} sampled / ({device.sample_flops:.3g} FLOP/s x {processes}))"
    )
    return Estimate(seconds, formula)


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


def read_calibration(path: Path) -> dict[str, float]:
    """`<device>/<kind>` -> median of measured / estimated; empty when nothing was measured or the cache is damaged."""
    if not path.is_file():
        return {}
    try:
        rows = read_json(path)
    except RegistryError:
        return {}
    return {key: statistics.median(ratios) for key, ratios in rows.items() if ratios}


def add_calibration(path: Path, measured: Mapping[str, float]) -> None:
    """Add one ratio for each key of `learned`; the newest KEPT stay."""
    try:
        rows = read_json(path) if path.is_file() else {}
    except RegistryError:
        rows = {}
    for key, ratio in measured.items():
        rows[key] = [*rows.get(key, []), round(ratio, 4)][-KEPT:]
    write_json(path, rows)
