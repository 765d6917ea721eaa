"""The common form of a measurement: a row, medians with their spread, CPU seconds and memory of a side in a process of its own.

A benchmark is a module with `rows(quick, seed) -> list[Row]`, started by `main(rows, __doc__)`; `run.py` collects them all.
A side that is measured alone is a module-level function that returns plain JSON: `alone("sft:ours", {"seed": 0})` runs it in a
fresh interpreter with one thread. First prove that both sides compute the same; a faster wrong answer is no result.
"""

from __future__ import annotations

import argparse
import importlib
import json
import operator
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPEATS, WARM_UPS = 5, 2
PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "numpy", "monai", "openslide-python", "openslide-bin")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}

_REACH = re.compile(r"(ours|ratio) (<=|>=|<|>) ([\d.]+)")
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `theirs` are medians in `unit`; `ratio` is ours / theirs, `low` and `high` its spread."""

    what: str
    against: str
    """The other side with its version; `-` when the reach is a fixed limit."""
    reach: str
    """`ratio >= 1.2`, `ours < 0.3`; empty when the row only informs."""
    ours: float
    theirs: float | None
    ratio: float | None
    low: float | None
    high: float | None
    unit: str
    notes: str = ""

    def __post_init__(self) -> None:
        if self.reach and not _REACH.fullmatch(self.reach):
            raise ValueError(f"reach is {self.reach!r}; write it as 'ratio >= 1.2' or 'ours < 0.3', or leave it empty")

    @property
    def is_reached(self) -> bool | None:
        """Whether the reach holds of the median; None when there is none."""
        if not self.reach:
            return None
        side, relation, limit = _REACH.fullmatch(self.reach).groups()
        value = self.ours if side == "ours" else self.ratio
        return value is not None and _HOLDS[relation](value, float(limit))


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def compared(
    what: str, against: str, reach: str, ours: Sequence[float], theirs: Sequence[float], unit: str, notes: str = ""
) -> Row:
    """A row of two sides' measurements. The ratio's spread is the widest that they allow: smallest of one by largest of the other."""
    own, other = Spread.of(ours), Spread.of(theirs)
    ratio, low, high = own.median / other.median, own.low / other.high, own.high / other.low
    return Row(what, against, reach, own.median, other.median, ratio, low, high, unit, notes)


def limited(what: str, reach: str, ours: Sequence[float], unit: str, notes: str = "") -> Row:
    """A row that is held against a fixed limit; the spread is that of the measurements themselves."""
    own = Spread.of(ours)
    return Row(what, "-", reach, own.median, None, None, own.low, own.high, unit, notes)


def repeated(measure: Callable[[], float], repeats: int = REPEATS, warm_ups: int = WARM_UPS) -> list[float]:
    """What `measure` returns, `repeats` times, after `warm_ups` whose figures are dropped."""
    return [measure() for _ in range(warm_ups + repeats)][warm_ups:]


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds (user + system, all threads of this process) of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


@dataclass
class Memory:
    """Filled in when `peak_above_base` ends."""

    base_bytes: int = 0
    peak_bytes: int = 0
    above_base_bytes: int = field(default=0)


@contextmanager
def peak_above_base() -> Iterator[Memory]:
    """Resident memory of this process: before, at its peak inside the block, and the difference. Linux only (/proc)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident now
    memory = Memory(base_bytes=_resident("VmRSS"))
    yield memory
    memory.peak_bytes = _resident("VmHWM")
    memory.above_base_bytes = memory.peak_bytes - memory.base_bytes


def _resident(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def environment(**more: str) -> dict[str, str]:
    """This process's, with one thread, no network and no accelerator.

    Compiled modules are written even where the variable that forbids it is set: pip has compiled the others' when it installed them,
    and ours would be compiled again by every process.
    """
    return {**os.environ, **ONE_THREAD, **QUIET, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(HERE.parent), **more}


def alone(side: str, settings: Mapping[str, Any], *, python: str = sys.executable, **more: str) -> Any:
    """What the function `module:function` of this folder returns, called with `settings` in an own process of one thread.

    Args:
        python: interpreter of another environment, when the other side is installed there.
        more: environment variables.

    Raises:
        RuntimeError: it failed; its standard error is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="factory-bench-") as folder:
        out = Path(folder) / "out.json"
        command = [python, str(HERE / "table.py"), side, json.dumps(settings), str(out)]
        done = subprocess.run(command, env=environment(**more), cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{side} failed ({done.returncode}):\n{done.stderr[-4000:]}")
        return json.loads(out.read_text())


def child_cpu_seconds(command: Sequence[str], **more: str) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a command and its children. Raises RuntimeError when it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed version of each; those that are absent are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def header(seed: int) -> list[str]:
    """What a reader needs to judge the figures: date, machine, versions, seed."""
    processor = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    listed = ", ".join(f"{name} {number}" for name, number in versions().items())
    return [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({processor}), {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}, seed {seed}",
        f"{listed}",
        f"medians of {REPEATS} or more after {WARM_UPS} warm-ups, one thread for each side, a process for each side",
    ]


def markdown(rows: Sequence[Row]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        "| what | against | ours | theirs | ratio (spread) | reach | reached |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        spread = "" if row.low is None or row.high is None else f" ({figure(row.low)} to {figure(row.high)})"
        ours = figure(row.ours) + (spread if row.ratio is None else "")
        theirs = "" if row.theirs is None else figure(row.theirs)
        ratio = "" if row.ratio is None else figure(row.ratio) + spread
        said = {True: "yes", False: "**no**", None: ""}[row.is_reached]
        lines.append(f"| {row.what} [{row.unit}] | {row.against} | {ours} | {theirs} | {ratio} | {row.reach} | {said} |")
    notes = [f"- {row.what}, {row.against}: {row.notes}" for row in rows if row.notes]
    return [*lines, "", *dict.fromkeys(notes)] if notes else lines


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main(rows: Callable[[bool, int], list[Row]], doc: str) -> None:
    """The command line of a benchmark: print the table, write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, to see that it works; the figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = rows(given.quick, given.seed)
    sys.stdout.write("\n".join([*header(given.seed), "", *markdown(found)]) + "\n")
    if given.json:
        given.json.write_text(json.dumps({"header": header(given.seed), "rows": [asdict(row) for row in found]}, indent=1))


def _run_side(side: str, settings: str, out: str) -> None:
    """What `alone` starts. The answer goes to a file: standard output belongs to the libraries."""
    module, function = side.split(":")
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    Path(out).write_text(json.dumps(getattr(importlib.import_module(module), function)(**json.loads(settings))))


if __name__ == "__main__":
    _run_side(*sys.argv[1:])
