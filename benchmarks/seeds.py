"""Did a recipe's stages learn, over several seeds? One table from the folders of finished runs, for docs/log.md.

    python benchmarks/seeds.py RUN_FOLDER RUN_FOLDER RUN_FOLDER [--by-task]

Each row is a stage: its held-out value in each run, and its difference to the stage that it started from, paired by sample.
`pooled` is the mean over runs with a 95 % bootstrap interval over the samples of each (runs are fixed); `over seeds` is Student's
interval of the runs' differences, which also covers the choice of seed and is wide with few runs.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factory.errors import DataError, FactoryError
from factory.pipeline.compare import paired_difference, read_scores
from factory.report.read import Measured, Run, read_run

RESAMPLES = 4000
STUDENT_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""0.975 quantile of Student's t, by number of runs."""


@dataclass(frozen=True)
class Line:
    """One stage over all runs. Shares, not percent."""

    stage: str
    values: list[float]
    against: str
    differences: list[tuple[float, float, float]]
    """(mean, low, high) of each run; empty for the first stage."""
    pooled: tuple[float, float, float] | None


def pooled(pairs: list[np.ndarray], *, seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high) of the mean over runs; samples are drawn again within each run."""
    rng = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for differences_N in pairs:
        size = len(differences_N)
        means += np.array([differences_N[rng.integers(0, size, size)].mean() for _ in range(RESAMPLES)]) / len(pairs)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean([one.mean() for one in pairs])), float(low), float(high)


def over_seeds(values: list[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean of the runs' values; None with one run."""
    if len(values) not in STUDENT_975:
        return None
    half = STUDENT_975[len(values)] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean - half, mean + half


def scores_of(measured: Measured) -> dict[str, float]:
    """Test sample -> score."""
    return read_scores(measured.folder / "samples.jsonl")


def lines(runs: list[Run]) -> list[Line]:
    """The table. Raises DataError: a run that has not ended, or runs with other stages than the first."""
    tables = [{row["stage"]: row for row in run.result.get("rows", [])} for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if not table or list(table) != list(tables[0]):
            raise DataError(
                f"{run.folder}: its measured stages are not those of {runs[0].folder}. Give ended runs of one recipe."
            )
    measured = [{one.stage: one for one in run.evals} for run in runs]
    found = []
    for stage, row in tables[0].items():
        values, against = [float(table[stage]["value"]) for table in tables], row["against"]
        differences, pairs = [], []
        for folders in measured if against else []:
            before, after = scores_of(folders[against]), scores_of(folders[stage])
            told = paired_difference(before, after, resamples=RESAMPLES, seed=0)
            if told is None:
                raise DataError(f"{folders[stage].folder}: no test sample in common with {against}. Run the build again.")
            differences.append((told.value, told.low, told.high))
            pairs.append(np.array([after[key] - before[key] for key in sorted(before.keys() & after.keys())]))
        found.append(Line(stage, values, against or "", differences, pooled(pairs) if pairs else None))
    return found


def tasks(runs: list[Run]) -> list[tuple[str, int, float, dict[str, float]]]:
    """(task, samples of a run, majority baseline, stage -> mean over runs)."""
    found: dict[str, tuple[int, float, dict[str, list[float]]]] = {}
    for run in runs:
        for one in run.evals:
            for task, figures in one.figures["splits"]["test"]["tasks"].items():
                held = found.setdefault(task, (int(figures["n"]), float(figures["majority"]), {}))
                held[2].setdefault(one.stage, []).append(float(figures["value"]))
    return [
        (task, size, majority, {stage: float(np.mean(values)) for stage, values in stages.items()})
        for task, (size, majority, stages) in sorted(found.items())
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _gain(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def markdown(runs: list[Run], found: list[Line]) -> str:
    """The table as Markdown; percent."""
    seeds = [str(run.config.get("seed", "?")) for run in runs]
    majority = runs[0].evals[0].figures["splits"]["test"]["majority"]
    heads = [
        "stage",
        *(f"seed {seed}" for seed in seeds),
        "against",
        *(f"seed {seed}: gain" for seed in seeds),
        "pooled",
        "over seeds",
    ]
    text = [
        f"{len(runs)} runs of `{runs[0].config.get('domain')}`, recipe `{runs[0].config.get('recipe')}`, eval.seed "
        f"{runs[0].config['eval'].get('seed')}, {runs[0].evals[0].primary['n']} test samples each, majority {_percent(majority)} %",
        "", "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads),
    ]  # fmt: skip
    for line in found:
        gains = [_gain(*one) for one in line.differences] or [""] * len(runs)
        wide = over_seeds([one[0] for one in line.differences]) if line.differences else None
        cells = [line.stage, *map(_percent, line.values), line.against, *gains, _gain(*line.pooled) if line.pooled else ""]
        cells.append(f"[{100 * wide[0]:.1f}, {100 * wide[1]:.1f}]" if wide else "")
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def task_table(runs: list[Run], stages: list[str]) -> str:
    """Means over runs by task as Markdown; percent."""
    text = ["| task | samples | majority | " + " | ".join(stages) + " |", "|" + " --- |" * (3 + len(stages))]
    for task, size, majority, means in tasks(runs):
        cells = [task, str(size), _percent(majority), *(_percent(means[stage]) if stage in means else "" for stage in stages)]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def main(argv: list[str]) -> int:
    """Print the table; exit code of the error when the runs do not go together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--by-task", action="store_true", help="also each task's mean over the runs")
    asked = parser.parse_args(argv)
    try:
        runs = [read_run(folder) for folder in asked.runs]
        found = lines(runs)
    except FactoryError as err:
        print(err, file=sys.stderr)
        return err.exit_code
    print(markdown(runs, found))
    if asked.by_task:
        print("\n" + task_table(runs, [line.stage for line in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
