"""AlphaDrive's ablation table on our simulator, in one command:

    python -m factory.domains.driving.ablations --seeds 0 1 2 --out FOLDER

Each row is a recipe of this pack (`recipes/ablation-*.yaml`), started from one small base per seed. An interrupted table goes on where
it stopped, because `factory build` resumes a run by its name. Prints the table and writes `ablations.json` and `ablations.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError


@dataclass(frozen=True)
class Row:
    """One line of the table: which stage of which recipe."""

    title: str
    recipe: str
    stage: str
    published: float
    """AlphaDrive's planning accuracy in percent (arXiv 2503.07608), on other data and a model 2000 times larger."""

    @property
    def thinks(self) -> bool:
        """Whether it reasons; decides the base."""
        return not self.recipe.endswith("-nothink")

    @property
    def is_rl_only(self) -> bool:
        """Whether no SFT comes before its RL; it then starts from a base that knows how a plan is written."""
        return "rl-only" in self.recipe


ROWS = (
    Row("reward: accuracy", "ablation-acc", "rl", 42.36),
    Row("reward: accuracy + format", "ablation-acc-format", "rl", 55.71),
    Row("reward: F1 + format", "ablation-f1", "rl", 67.91),
    Row("reward: F1 + weights + format", "ablation-weights", "rl", 72.20),
    Row("reward: F1 + diversity + format", "ablation-diversity", "rl", 69.38),
    Row("reward: all", "ablation-all", "rl", 77.12),
    Row("SFT only, with reasoning", "ablation-all", "sft", 65.40),
    Row("RL only, with reasoning", "ablation-rl-only", "rl", 72.41),
    Row("SFT + RL, with reasoning", "ablation-all", "rl", 77.12),
    Row("SFT only, without reasoning", "ablation-all-nothink", "sft", 56.97),
    Row("RL only, without reasoning", "ablation-rl-only-nothink", "rl", 62.16),
    Row("SFT + RL, without reasoning", "ablation-all-nothink", "rl", 70.73),
)
FIGURES = {
    "plan/accuracy": ("actions", "plan/accuracy"), "speed/macro_f1": ("actions", "speed/macro_f1"),
    "path/macro_f1": ("actions", "path/macro_f1"), "collision_rate": ("consequences", "collision_rate"),
    "safe_rate": ("consequences", "safe_rate"), "pdm_proxy": ("consequences", "pdm_proxy"),
}  # fmt: skip
"""Column -> (probe, figure) of a stage's eval.json."""
QUICK = {
    "cpt": ("documents=64", "epochs=1", "batch_size=16"), "sft": ("lessons=32", "epochs=2", "batch_size=16"),
    "rl": ("num_steps=2", "samples=16", "prompts_per_step=2", "group_size=4", "max_new_tokens=24"),
}  # fmt: skip
"""Kind of stage -> settings of a trial run that learns nothing."""
_MAIN = "from factory.cli.app import main; main()"


def build(recipe: str, seed: int, base: str, extra: Sequence[str] = ()) -> Path:
    """Run, or resume, one build and return its folder. Raises FactoryError with the end of its output when it fails."""
    command = [sys.executable, "-c", _MAIN, "build", "--domain", "driving", "--recipe", recipe, "--seed", str(seed), "--json"]
    command += ["--run", f"driving-{recipe}-s{seed}", *(["--base", base] if base else [])]
    for item in extra:
        command += ["--set", item]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        raise FactoryError(f"the build of {recipe}, seed {seed}, failed: {(done.stderr or done.stdout).strip()[-1500:]}")
    return Path(json.loads(done.stdout)["folder"])


def quick_settings(recipe: str) -> list[str]:
    """Settings that cut a recipe to a few steps a stage."""
    from factory.config.compose import compose

    stages = compose("driving", recipe=recipe).config.stages
    cut = [f"stages.{name}.{setting}" for name, stage in stages.items() for setting in QUICK[stage.kind]]
    return [*cut, "eval.samples=16", "eval.validation_samples=8", "eval.bootstrap=100"]


def model_of(run: Path, stage: str) -> str:
    """Folder of the model that a stage of a run left behind."""
    [folder] = [path for path in (run / "stages").glob(f"*-{stage}") if (path / "model").is_dir()]
    return str(folder / "model")


def figures_of(run: Path, stage: str) -> dict[str, float]:
    """The table's figures of one stage. A figure that the stage does not have (no plan at all) is absent."""
    [path] = (run / "stages").glob(f"*-{stage}-eval/eval.json")
    probes = json.loads(path.read_text(encoding="utf-8"))["probes"]
    return {name: probes[probe][figure] for name, (probe, figure) in FIGURES.items() if figure in probes.get(probe, {})}


def run_seed(seed: int, rows: Sequence[Row], extra: Sequence[str] = (), *, is_quick: bool = False) -> list[dict[str, Any]]:
    """All rows for one seed: the bases with and without reasoning, then each recipe once."""

    def settings(recipe: str) -> list[str]:
        return [*(quick_settings(recipe) if is_quick else ()), *extra]

    first = build("ablation-base", seed, "", settings("ablation-base"))
    bases, formed = {True: model_of(first, "instruct")}, dict[bool, str]()
    if not all(row.thinks for row in rows):
        second = build("ablation-base-nothink", seed, model_of(first, "cpt"), settings("ablation-base-nothink"))
        bases[False] = model_of(second, "instruct")
    for thinks, recipe in ((True, "ablation-form"), (False, "ablation-form-nothink")):
        if any(row.is_rl_only and row.thinks is thinks for row in rows):
            formed[thinks] = model_of(build(recipe, seed, bases[thinks], settings(recipe)), "form")
    runs: dict[str, Path] = {}
    found = []
    for row in rows:
        if row.recipe not in runs:
            start = (formed if row.is_rl_only else bases)[row.thinks]
            runs[row.recipe] = build(row.recipe, seed, start, settings(row.recipe))
        found.append({"title": row.title, "published": row.published, "seed": seed, **figures_of(runs[row.recipe], row.stage)})
        print(json.dumps(found[-1]), flush=True)
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: mean over the seeds and each seed's planning accuracy, in percent, beside the published figure."""
    lines = ["| row | published | ours | by seed | " + " | ".join(list(FIGURES)[1:]) + " |", "| --- " * (3 + len(FIGURES)) + "|"]
    for title in dict.fromkeys(row["title"] for row in rows):
        mine = [row for row in rows if row["title"] == title]
        seeds = ", ".join(f"{100 * row.get('plan/accuracy', 0.0):.1f}" for row in mine)
        cells = [_mean(mine, name) for name in FIGURES]
        lines.append(f"| {title} | {mine[0]['published']:.2f} | {cells[0]} | {seeds} | {' | '.join(cells[1:])} |")
    return "\n".join(lines) + "\n"


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if name in row]
    return f"{100 * math.fsum(values) / len(values):.1f}" if values else "-"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description="AlphaDrive's ablation table on the simulator of the driving pack.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True, help="folder for ablations.json and ablations.md")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every build")
    parser.add_argument("--only", nargs="*", default=[], help="recipes to run, without the others")
    parser.add_argument("--quick", action="store_true", help="a few steps a stage: shows that everything runs, and nothing else")
    asked = parser.parse_args(arguments)
    rows = [row for row in ROWS if not asked.only or row.recipe in asked.only]
    found: list[dict[str, Any]] = []
    asked.out.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds:
        found += run_seed(seed, rows, asked.set, is_quick=asked.quick)
        (asked.out / "ablations.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (asked.out / "ablations.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
