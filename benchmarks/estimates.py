"""Estimated against measured time and memory of every step of finished runs, and of builds made for it if asked.

    python benchmarks/estimates.py [HOME_OR_RUN ...] [--build DOMAIN:RECIPE ...]

Time is what the estimate is of: CPU seconds of the step's process on CPU (so a busy machine does not lengthen it), wall time on a GPU
and for runs from before they were recorded. For each kind of step three ratios measured / estimated: `plan` as the run's own plan
said; `plain` of the formula without calibration; `left out` of the formula calibrated on the *other* runs given, as a build calibrates
(of the same pack where there are any). Memory is the largest the step's process was. `--build` runs each recipe in one new home with
seed 0, which teaches, and then with seed 1, which is counted: the share within 25 % is that of what `factory plan` said of the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from factory.pipeline.calibration import START_S, Calibration  # noqa: E402
from factory.pipeline.estimate import CPU_THREAD, GPU, busy_s  # noqa: E402

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
    planned_bytes: int = 0
    peak_bytes: int = 0
    """Of the step's process; 0 when it was not recorded."""

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
            told = json.loads(lock.read_text(encoding="utf-8"))
            on_gpu = plan.get("device") == GPU.name
            measured = busy_s(told, GPU if on_gpu else CPU_THREAD)
            planned_bytes = planned.get("memory_bytes", planned.get("peak_memory_bytes", 0))
            peak = told.get("usage", {}).get("peak_device_bytes" if on_gpu else "peak_bytes", 0)
            found.append(
                Step(
                    run.name,
                    plan["pack"]["name"],
                    planned.get("costs_like", planned["kind"]),
                    measured,
                    planned["seconds"],
                    plain,
                    planned_bytes,
                    peak,
                )
            )
    return found


def plain_seconds(planned: dict[str, Any]) -> float | None:
    """Seconds of the formula without calibration, from the formula that the plan shows; None when it shows none."""
    text = planned.get("seconds_formula", "")
    apart = re.match(r"([\d.]+) x ([\d.]+) s \+ ([\d.]+) x \(", text)
    if apart and float(apart[3]) > 0:
        return START_S + (planned["seconds"] - float(apart[1]) * float(apart[2])) / float(apart[3])
    together = re.match(r"([\d.]+) x \(", text)  # as plans were written before start and work were scaled apart
    return planned["seconds"] / float(together[1]) if together and float(together[1]) > 0 else None


def left_out(step: Step, steps: Sequence[Step]) -> float | None:
    """Measured / estimated, calibrated on the other runs as a build calibrates. None without another run."""
    others: dict[str, list[tuple[float, float]]] = {}
    for one in steps:
        if one.run != step.run and one.kind == step.kind:
            others.setdefault(one.pack, []).append((one.plain_s - START_S, one.measured_s))
    if not others:
        return None
    known = Calibration({f"here/{step.kind}": others}).factors("here", step.kind, step.pack)
    return step.measured_s / known.seconds(step.plain_s - START_S)


def table(steps: Sequence[Step]) -> list[str]:
    """One line for each kind and one for all."""
    lines = [
        f"{'kind':<14}{'steps':>6}{'plan':>18}{'plain':>18}{'left out':>18}{'within 25 %':>13}{'memory':>18}{'within 25 %':>13}"
    ]
    for kind in [*sorted({step.kind for step in steps}), "all"]:
        own = [step for step in steps if kind in ("all", step.kind)]
        out = [ratio for step in own if (ratio := left_out(step, steps)) is not None]
        memory = [step.peak_bytes / step.planned_bytes for step in own if step.peak_bytes and step.planned_bytes]
        columns = [
            quartiles([s.measured_s / s.planned_s for s in own if s.planned_s]),
            quartiles([s.ratio for s in own]),
            quartiles(out),
        ]
        cells = "".join(f"{text:>18}" for text in columns) + f"{share(out):>13}{quartiles(memory):>18}{share(memory):>13}"
        lines.append(f"{kind:<14}{len(own):>6}{cells}".rstrip())
    return lines


def share(ratios: Sequence[float]) -> str:
    """`near/all` of ratios within 25 %."""
    near = sum(1 / (1 + WITHIN) <= ratio <= 1 + WITHIN for ratio in ratios)
    return f"{near}/{len(ratios)}" if ratios else ""


def quartiles(values: Sequence[float]) -> str:
    """`median (lower - upper quartile)`."""
    if not values:
        return ""
    if len(values) < 4:
        return f"{statistics.median(values):.2f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def built(home: Path, domain: str, recipe: str, seed: int) -> list[Step]:
    """Run `factory build` as a process of its own; the steps that it took."""
    environment = {**os.environ, "FACTORY_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [
        sys.executable,
        "-m",
        "factory.cli.app",
        "build",
        "--domain",
        domain,
        "--recipe",
        recipe,
        "--seed",
        str(seed),
        "--json",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return steps_of(Path(json.loads(done.stdout)["folder"]))


def lines_of_build(name: str, label: str, steps: Sequence[Step]) -> Iterator[str]:
    """What the plan said of each step and of the whole, and what came."""
    times, sizes = [], []
    for step in steps:
        times.append(step.measured_s / step.planned_s)
        sizes.append(step.peak_bytes / step.planned_bytes)
        yield (
            f"{name:<32}{label:<12}{step.kind:<8}{step.measured_s:>8.1f} s, planned {step.planned_s:>6.1f} ({times[-1]:.2f})"
            f"{step.peak_bytes / 2**20:>8.0f} MiB, planned {step.planned_bytes / 2**20:>6.0f} ({sizes[-1]:.2f})"
        )
    measured, planned = sum(step.measured_s for step in steps), sum(step.planned_s for step in steps)
    yield f"{name:<32}{label:<12}whole   {measured:>8.1f} s, planned {planned:>6.1f} ({measured / planned:.2f}); within 25 %: time {share(times)}, memory {share(sizes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", type=Path, help="homes, folders of runs, or runs; without any, FACTORY_HOME")
    parser.add_argument("--build", action="append", default=[], metavar="DOMAIN:RECIPE")
    given = parser.parse_args()
    places = given.places or ([] if given.build else [Path(os.environ.get("FACTORY_HOME", "~/.factory")).expanduser()])
    steps = [step for run in runs_in(places) for step in steps_of(run)]
    out = table(steps) if steps else [] if given.build else ["no finished run with a plan was found"]
    if given.build:
        with tempfile.TemporaryDirectory(prefix="factory-estimates-") as folder:
            for seed, label in ((0, "first"), (1, "calibrated")):
                for name in given.build:
                    domain, _, recipe = name.partition(":")
                    out += lines_of_build(name, label, built(Path(folder), domain, recipe or "embedded-quick", seed))
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
