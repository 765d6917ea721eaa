"""Small embedded builds that are made once, copied for each scenario, and compared with at its end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boundaries
import forked

RUN = "run"
EVAL = "{samples: 4, validation_samples: 3, bootstrap: 20, max_new_tokens: 4, probes: false}"
OPTIM = "optim: {warmup_steps: 1, checkpoint_every: 2}"
STAGES = {
    "cpt": f"{{kind: cpt, documents: 20, batch_size: 4, pack_length: 96, {OPTIM}}}",
    "sft": f"{{kind: sft, lessons: 20, epochs: 1, batch_size: 4, adapter: {{kind: lora, rank: 4, dropout: 0.2}}, {OPTIM}}}",
    # Sampling by what was learned, and replay of groups that had spread; the penalty for length gives an untrained model spread.
    "rl": (
        "{kind: rl, preset: grpo, num_steps: 5, samples: 6, prompts_per_step: 2, group_size: 4, max_new_tokens: 40, "
        "pieces: {sampler: {rlcs: {decay: 0.9, by: latest}}, reward: {overlong: {cache_share: 0.95, factor: 0.5}}, resample: {ssr: {variant: paper, alpha: 1.0}}}, "
        f"{OPTIM}}}"
    ),
}
RECIPES = {"cpt": ("cpt",), "sft": ("sft",), "rl": ("rl",), "full": ("cpt", "sft", "rl")}
CHECKPOINT_EVERY, STEPS = 2, 5
TIMED = ("time", "tokens_per")
"""How the figures begin that the clock makes."""


@dataclass
class Prepared:
    """A finished run and what is true of it.

    Args:
        root: folder for homes, recipes and output.
    """

    root: Path
    homes: dict[str, Path] = field(default_factory=dict)
    wanted: dict[str, dict[str, Any]] = field(default_factory=dict)
    boundaries: dict[tuple[str, str], int] = field(default_factory=dict)
    """(recipe, worker's step or "conductor") -> boundaries that it passes in an undisturbed build."""

    def words(self, recipe: str, *more: str) -> list[str]:
        """The command line of a build."""
        path = self.root / f"{recipe}.yaml"
        if not path.exists():
            stages = "".join(f"  {name}: {STAGES[name]}\n" for name in RECIPES[recipe])
            shares = "pack: {shares: {transcribe: 1, complement: 1}}"
            path.write_text(
                f"description: A few steps.\nbase: embedded-text\n{shares}\npool: {{timeout_s: 120}}\neval: {EVAL}\nstages:\n{stages}"
            )
        return ["build", "--domain", "biology", "--recipe", str(path), "--run", RUN, "--json", *more]

    def reference(self, recipe: str) -> Path:
        """Home of the undisturbed build, made at the first call."""
        if recipe not in self.homes:
            home, counted = self.root / f"home-{recipe}", self.root / f"boundaries-{recipe}"
            counted.mkdir()
            build = forked.Build(
                self.words(recipe),
                home,
                self.root / f"said-{recipe}",
                lambda role, step: boundaries.note(counted / (step or role)),
            )
            if build.wait() != 0:
                raise AssertionError(f"the undisturbed build failed:\n{build.text()}")
            self.wanted[recipe] = digest(home)
            self.boundaries |= {(recipe, path.name): len(path.read_text().split()) for path in counted.iterdir()}
            self.homes[recipe] = home
            self._warm(recipe, home)
        return self.homes[recipe]

    def _warm(self, recipe: str, home: Path) -> None:
        """The same build once more in this process, which finds all finished: what it loads, forks need not load again."""
        from factory.cli.app import run
        from factory.stages.models.load import load

        os.environ["FACTORY_HOME"] = str(home)
        with (self.root / f"said-{recipe}").open("a") as said, redirect_stdout(said), redirect_stderr(said):
            assert run(self.words(recipe)) == 0
        for model in sorted(home.glob(f"runs/{RUN}/stages/*/model")):
            load(model, precision="fp32")

    def copy(self, recipe: str, home: Path, *, cut_at: str | None = None) -> Path:
        """A copy of the finished home; `cut_at` takes away that step, all after it, the registry, and the verdicts that are kept."""
        shutil.copytree(self.reference(recipe), home, symlinks=True)
        if cut_at is not None:
            run = home / "runs" / RUN
            for step in (run / "stages").iterdir():
                if step.name >= cut_at:
                    shutil.rmtree(step)
            shutil.rmtree(home / "registry")
            shutil.rmtree(home / "cache" / "verdicts")  # else no verifier would be asked again
            for name in ("result.json", "metrics.jsonl", "report.html", "MODEL_CARD.md"):
                (run / name).unlink(missing_ok=True)
        return home

    def steps(self, recipe: str) -> list[str]:
        """Names of the steps in order."""
        return sorted(path.name for path in (self.reference(recipe) / "runs" / RUN / "stages").iterdir())


def digest(home: Path) -> dict[str, Any]:
    """What two equal builds have in common: outputs of every step, rows of metrics without times, the result, the models."""
    run, found = home / "runs" / RUN, {}
    for path in sorted(run.glob("stages/[0-9]*/stage.lock")):
        found[path.parent.name] = outputs(path)
        found[f"{path.parent.name} rows"] = rows(path.parent / "metrics.jsonl")
    result = json.loads((run / "result.json").read_text())
    found["rows"], found["chosen"] = result["rows"], result["chosen"]
    manifests = sorted((home / "registry" / "manifests").glob("*.json"))
    # An adapter that was made again in another folder names that folder, so the same weights may be registered a second time.
    found["models"] = sorted({json.dumps(json.loads(path.read_text())["artifacts"]) for path in manifests})
    return found


def outputs(lock: Path) -> dict[str, str]:
    """Hash of every output of a finished step, but for the two files in which an adapter names the folder it was made in."""
    files = json.loads(lock.read_text())["outputs"]["files"]
    return {
        name: row["sha256"] for name, row in files.items() if Path(name).name not in ("adapter_chain.json", "adapter_config.json")
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl without the clock's figures."""
    if not path.exists():
        return []
    read = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(TIMED)} for row in read]


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> Sequence[str]:
    """The parts of two digests that differ: for rows the first figure that does, for outputs the files that do."""
    return [
        f"{name}: {first_difference(found.get(name), wanted.get(name))}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]


def first_difference(found: Any, wanted: Any, place: str = "") -> str:
    """Where two trees differ first."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        pairs = [(key, found.get(key), wanted.get(key)) for key in sorted({*found, *wanted})]
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = list(zip(range(len(found)), found, wanted, strict=True))
    else:
        return f"{place} is {found!r:.200} for {wanted!r:.200}"
    return next(first_difference(one, other, f"{place}/{key}") for key, one, other in pairs if one != other)
