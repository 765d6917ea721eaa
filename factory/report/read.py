"""Read what a run left on disk into one plain structure; the report and the model card are drawn from it and nothing else."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import RegistryError
from factory.registry.run_settings import read_run_settings


@dataclass(frozen=True)
class Measured:
    """One eval step: the stage it judged and its figures."""

    stage: str
    folder: Path
    figures: dict[str, Any]

    @property
    def primary(self) -> dict[str, Any]:
        """`value`, `n` and `ci` on the test split."""
        return self.figures["splits"]["test"]["primary"]

    def rows(self) -> list[dict[str, Any]]:
        """The scored test samples."""
        return read_jsonl(self.folder / "samples.jsonl")


@dataclass(frozen=True)
class Trained:
    """One training step with its metrics, in step order."""

    name: str
    kind: str
    folder: Path
    metrics: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)
    """What the finished stage said of itself (`outputs.metrics` of its lock); empty while it runs."""


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run folder."""

    folder: Path
    config: dict[str, Any]
    record: dict[str, Any]
    plan: dict[str, Any]
    result: dict[str, Any]
    evals: list[Measured]
    trainings: list[Trained]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line cut off by a kill is left out, and so is what a broken disk made of one."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises RegistryError when it is not one."""
    if not (folder / "resolved.yaml").exists():
        raise RegistryError(
            f"{folder}: no resolved.yaml, so this is not a run folder. Give the folder that `factory build` printed."
        )
    config = read_run_settings(folder)
    evals, trainings = [], []
    for step in sorted((folder / "stages").glob("[0-9][0-9]-*")):
        name = step.name.split("-", 1)[1]
        if step.suffix == ".partial":
            continue
        if (step / "eval.json").exists():
            figures = _json(step / "eval.json")
            evals.append(Measured(name.removesuffix("-eval"), step, figures))
        elif (step / "metrics.jsonl").exists():
            kind = config.get("stages", {}).get(name, {}).get("kind", name)
            rows = [row for row in read_jsonl(step / "metrics.jsonl") if "step" in row]
            outcome = _json(step / "stage.lock").get("outputs", {}).get("metrics") or {}
            trainings.append(Trained(name, kind, step, rows, outcome))
    return Run(
        folder, config, _json(folder / "run.json"), _json(folder / "plan.json"), _json(folder / "result.json"), evals, trainings
    )


def data_uri(path: Path) -> str:
    """A PNG file as a `data:` address, so that the report needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
