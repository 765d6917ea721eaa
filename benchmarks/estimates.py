"""Estimated against measured time of every step of finished runs, and of a quick build if asked: wall time, CPU seconds, memory.

    python benchmarks/estimates.py [HOME_OR_RUN ...] [--build DOMAIN:RECIPE ...]

For each kind of step three ratios measured / estimated: `plan` as the run's own plan said; `plain` of the formula without
calibration; `left out` of the formula calibrated on the *other* runs given, as a build calibrates (of the same pack where there
are any). The share within 25 % is that of `left out`. Wall time of a shared machine says
nothing of a quiet one; `--build` runs a recipe in a home of its own, once to calibrate and once to measure, and compares CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from factory.pipeline.estimate import START_S, factors, learned  # noqa: E402

WITHIN = 0.25


@dataclass(frozen=True)
class Step:
    """One finished step."""

    run: str
    pack: str
    kind: str
    measured_s: float
    planned_s: float
    plain_s: float
    """The formula without calibration."""

    @property
    def ratio(self) -> float:
        """Measured / plain: what calibration learns."""
        return self.measured_s / self.plain_s


def runs_in(places: Iterable[Path]) -> list[Path]:
    """Run folders: those given, those of a home given, and those of a folder of runs given."""
    found: list[Path] = []
    for place in places:
        if (place / "resolved.yaml").is_file():
            found.append(place)
        else:
            found += sorted(path.parent for path in [*place.glob("runs/*/resolved.yaml"), *place.glob("*/resolved.yaml")])
    return found


def steps_of(run: Path) -> list[Step]:
    """Finished steps of one run whose plan has a formula; [] for a run without a plan."""
    path = run / "plan.json"
    if not path.is_file():
        return []
    plan = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for planned in plan["steps"]:
        lock = run / "stages" / planned["name"] / "stage.lock"
        plain = plain_seconds(planned)
        if lock.is_file() and plain is not None:
            measured = json.loads(lock.read_text(encoding="utf-8"))["seconds"]
            found.append(Step(run.name, plan["pack"]["name"], planned["kind"], measured, planned["seconds"], plain))
    return found


def plain_seconds(planned: dict[str, Any]) -> float | None:
    """Seconds of the formula without calibration, from the formula that the plan shows; None when it shows none."""
    text = planned.get("seconds_formula", "")
    apart = re.match(r"([\d.]+) x [\d.]+ s \+ ([\d.]+) x \(", text)
    if apart and float(apart[2]) > 0:
        return START_S + (planned["seconds"] - float(apart[1]) * START_S) / float(apart[2])
    together = re.match(r"([\d.]+) x \(", text)  # as plans were written before start and work were scaled apart
    return planned["seconds"] / float(together[1]) if together and float(together[1]) > 0 else None


def left_out(step: Step, steps: Sequence[Step]) -> float | None:
    """Measured / estimated, calibrated on the other runs as a build calibrates. None without another run."""
    others = [one for one in steps if one.run != step.run]
    known: dict[str, list[float]] = {}
    # Short steps first: they teach the start, which the others need.
    for one in sorted(others, key=lambda one: one.plain_s):
        start = factors(medians(known), "here", one.kind, one.pack).start
        for key, ratio in learned(
            "here", one.kind, one.pack, work=one.plain_s - START_S, seconds=one.measured_s, start=start
        ).items():
            known.setdefault(key, []).append(ratio)
    if not any(one.kind == step.kind for one in others):
        return None
    found = factors(medians(known), "here", step.kind, step.pack)
    return step.measured_s / (found.start * START_S + found.work * (step.plain_s - START_S))


def medians(known: dict[str, list[float]]) -> dict[str, float]:
    """Key -> median of its ratios."""
    return {key: statistics.median(ratios) for key, ratios in known.items()}


def table(steps: Sequence[Step]) -> list[str]:
    """One line for each kind and one for all."""
    lines = [f"{'kind':<14}{'steps':>6}{'plan':>18}{'plain':>18}{'left out':>18}{'within 25 %':>13}"]
    for kind in [*sorted({step.kind for step in steps}), "all"]:
        own = [step for step in steps if kind in ("all", step.kind)]
        out = [ratio for step in own if (ratio := left_out(step, steps)) is not None]
        near = sum(1 / (1 + WITHIN) <= ratio <= 1 + WITHIN for ratio in out)
        columns = [
            quartiles([s.measured_s / s.planned_s for s in own if s.planned_s]),
            quartiles([s.ratio for s in own]),
            quartiles(out),
        ]
        share = f"{near}/{len(out)}" if out else ""
        lines.append(f"{kind:<14}{len(own):>6}" + "".join(f"{text:>18}" for text in columns) + f"{share:>13}")
    return lines


def quartiles(values: Sequence[float]) -> str:
    """`median (lower - upper quartile)`."""
    if not values:
        return ""
    if len(values) < 4:
        return f"{statistics.median(values):.2f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


@dataclass(frozen=True)
class Built:
    """One build, measured from outside."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    """Largest process."""
    planned_s: float
    planned_bytes: int


def build(home: Path, domain: str, recipe: str, seed: int) -> Built:
    """Run `factory build` as a process of its own and read the system's account of it and its children."""
    environment = {**os.environ, "FACTORY_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-m", "factory.cli.app"]
    options = ["--domain", domain, "--recipe", recipe, "--seed", str(seed), "--json"]
    plan = json.loads(
        subprocess.run([*command, "plan", *options], env=environment, capture_output=True, text=True, check=True).stdout
    )
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [*command, "build", *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Linux counts in KiB; the largest child so far, of which all but these builds are small.
    return Built(cpu, time.monotonic() - began, after.ru_maxrss * 1024, plan["seconds"], plan["peak_memory_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", type=Path, help="homes, folders of runs, or runs; without any, FACTORY_HOME")
    parser.add_argument("--build", action="append", default=[], metavar="DOMAIN:RECIPE")
    given = parser.parse_args()
    places = given.places or [Path(os.environ.get("FACTORY_HOME", "~/.factory")).expanduser()]
    steps = [step for run in runs_in(places) for step in steps_of(run)]
    out = table(steps) if steps else ["no finished run with a plan was found"]
    for name in given.build:
        domain, _, recipe = name.partition(":")
        with tempfile.TemporaryDirectory(prefix="factory-estimates-") as folder:
            first, second = (build(Path(folder), domain, recipe or "embedded-quick", seed) for seed in (0, 1))
        for label, one in (("first", first), ("calibrated", second)):
            out.append(
                f"{name} {label}: CPU {one.cpu_s:.1f} s, wall {one.wall_s:.1f} s, planned {one.planned_s:.1f} s (CPU / planned {one.cpu_s / one.planned_s:.2f}); "
                f"largest process {one.peak_bytes / 2**20:.0f} MiB, planned for the model {one.planned_bytes / 2**20:.0f} MiB"
            )
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
