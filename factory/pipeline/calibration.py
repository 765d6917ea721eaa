"""What finished steps teach the estimates of the next: `$FACTORY_HOME/cache/calibration.json`.

A step takes `start x START_S + work x (its seconds by the formula)`. Both factors are fitted to the newest steps of the same kind: first to
those of other packs, around `FIRST`, then to those of this pack, around that. What is kept are the seconds themselves, not factors, for
what counts as start and what as work only shows in steps of different sizes: a build of seconds tells the one, a build of hours the other.
Memory is simpler: the process beside its model, by the median.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.registry.files import read_json, write_json

START_S = 1.0
"""Start of a worker that is forked from loaded libraries: load of model and pack."""
LOAD_S = 6.0
"""Import of torch, transformers and what else the steps share: once a build where workers are forked, else in each step."""
FORM = 2
"""Of the file. Steps in the first one each had their imports with them."""
PROCESS_MIB = 410.0
"""Main memory of a process on CPU beside its model (interpreter, libraries, pack), until this machine has its own; 345 to 440 were
measured over the steps of pathology."""
KEPT = 9
"""Steps kept for each kind and pack."""
NOISE = 0.1
"""Standard deviation of the logarithm of a step's time; that of the factors before any step of the kind was seen is 1."""
HUBER, ROUNDS = 2.0, 60

IN_PLACE = "base-in-place"
"""Kind of a base that is used where it lies."""
FORKING = ("cpu-1-thread",)
"""Devices on which workers are forked (factory.launch.forks)."""
Step = tuple[float, float]
"""(seconds of its work by the formula, measured seconds)."""


@dataclass(frozen=True)
class Factors:
    """How this machine scales one kind of step."""

    start: float = 1.0
    work: float = 1.0

    def seconds(self, work_s: float) -> float:
        """Of a step whose work is `work_s` by the formula."""
        return self.start * START_S + self.work * work_s


FIRST: Mapping[str, Factors] = {
    "cpu-1-thread/base": Factors(start=9.0),
    f"cpu-1-thread/{IN_PLACE}": Factors(start=0.1),
    "cpu-1-thread/cpt": Factors(work=0.6),
    "cpu-1-thread/sft": Factors(work=0.18),
    "cpu-1-thread/rl": Factors(work=0.25),
}
"""Measured on the embedded pathology recipe (docs/log.md), used until this machine has its own. Work is well below 1, because planned
tokens are upper limits: whole answers, longest lessons."""
ANEW = Factors(start=(START_S + LOAD_S) / START_S)
"""Of devices on which each step loads its libraries anew, until this machine has its own."""


@dataclass(frozen=True)
class Calibration:
    """Finished steps by kind (`<device>/<kind>`) and pack, the newest last."""

    steps: Mapping[str, Mapping[str, Sequence[Step]]] = field(default_factory=dict)
    process_mib: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def factors(self, device: str, kind: str, pack: str) -> Factors:
        """The factors of a kind of step of this pack."""
        key = f"{device}/{kind}"
        packs = self.steps.get(key, {})
        first = FIRST.get(key, Factors() if device in FORKING else ANEW)
        of_kind = fitted(first, (step for name, steps in packs.items() if name != pack for step in steps))
        return fitted(of_kind, packs.get(pack, ()))

    def process_bytes(self, device: str, kind: str, pack: str) -> int:
        """Main memory of one process of a step beside its model: of this pack, else of all packs, else `PROCESS_MIB`."""
        packs = self.process_mib.get(f"{device}/{kind}", {})
        known = packs.get(pack) or [mib for sizes in packs.values() for mib in sizes] or [PROCESS_MIB]
        return int(statistics.median(known) * 2**20)


def fitted(before: Factors, steps: Iterable[Step]) -> Factors:
    """The factors that explain the steps, near those known before where the steps leave it open.

    Minimises sum huber(log(seconds(w) / s) / NOISE) + (log(start / start0)^2 + log(work / work0)^2) / 2 over the steps (w, s) by
    Gauss-Newton with reweighting (Huber, Robust Statistics, section 7.8): times are wrong by factors, and one step that a busy machine
    slowed down pulls no more than one that is wrong by HUBER times the noise.
    """
    steps = [(max(0.0, work), seconds) for work, seconds in steps if 0 < seconds < math.inf and work < math.inf]
    start = work = 0.0  # logarithms of the factors, relative to those known before
    for _ in range(ROUNDS):
        aa, ab, bb, a, b = 1.0, 0.0, 1.0, start, work  # second derivatives and gradient, from the last two terms on
        for amount, seconds in steps:
            begin, rest = before.start * START_S * math.exp(start), before.work * amount * math.exp(work)
            share = begin / (begin + rest)
            miss = math.log((begin + rest) / seconds) / NOISE
            weight = min(1.0, HUBER / abs(miss)) if miss else 1.0
            by_start, by_work = share / NOISE, (1 - share) / NOISE
            aa, ab, bb = aa + weight * by_start**2, ab + weight * by_start * by_work, bb + weight * by_work**2
            a, b = a + weight * by_start * miss, b + weight * by_work * miss
        scale = 1 / (aa * bb - ab * ab)
        start -= 0.5 * min(1.0, max(-1.0, scale * (bb * a - ab * b)))  # half steps: whole ones jump to and fro across a bend
        work -= 0.5 * min(1.0, max(-1.0, scale * (aa * b - ab * a)))
    return Factors(before.start * math.exp(start), before.work * math.exp(work))


def read_calibration(path: Path) -> Calibration:
    """The cache; nothing when nothing was measured, or when it is damaged or of an older form."""
    try:
        held = read_json(path) if path.is_file() else {}
        if held["form"] != FORM:
            return Calibration()
        return Calibration(
            {key: {pack: [(float(w), float(s)) for w, s in steps] for pack, steps in packs.items()} for key, packs in held["steps"].items()},
            {key: {pack: [float(mib) for mib in sizes] for pack, sizes in packs.items()} for key, packs in held["process_mib"].items()},
        )  # fmt: skip
    except (RegistryError, KeyError, TypeError, ValueError, AttributeError):
        return Calibration()


def add_calibration(path: Path, device: str, kind: str, pack: str, *, step: Step, process_mib: float | None) -> None:
    """Add what one finished step took; the newest KEPT stay."""
    known, key = read_calibration(path), f"{device}/{kind}"
    steps, sizes = _with(known.steps, key, pack, [tuple(round(s, 2) for s in step)]), known.process_mib
    if process_mib is not None:
        sizes = _with(sizes, key, pack, [round(process_mib, 1)])
    write_json(path, {"form": FORM, "steps": steps, "process_mib": sizes})


def _with(rows: Mapping[str, Mapping[str, Sequence[Any]]], key: str, pack: str, new: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """The rows and new ones of one kind and pack."""
    result = {one: dict(packs) for one, packs in rows.items()}
    packs = result.setdefault(key, {})
    packs[pack] = [*packs.get(pack, ()), *new][-KEPT:]
    return result
