"""What a past run says about its mixture: the weights in resolved.yaml, the score in the eval of the stage that used them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.config.provenance import flat
from factory.errors import ConfigError, DataError, near_miss
from factory.registry.files import read_json
from factory.registry.home import Home
from factory.registry.run_settings import read_run_settings

SAMPLER = ("pieces", "sampler", "mix", "weights")
SPLIT = "validation"
"""The split that may choose things; the test split reports and chooses nothing."""


@dataclass(frozen=True)
class MixtureRun:
    """One point of the fit."""

    name: str
    key: str
    """Where the weights stand in its config."""
    stage: str
    weights: Mapping[str, float]
    """Sum 1."""
    score: float
    metric: str
    config: Mapping[str, Any]
    """Its whole config, flat, without the weights."""


def find_run(name: str) -> Path:
    """The folder of a run: a path, or a name under $FACTORY_HOME/runs. Raises DataError with the nearest known name."""
    path, home = Path(name).expanduser(), Home.find()
    for folder in (path, home.runs / name):
        if (folder / "resolved.yaml").is_file():
            return folder
    known = [folder.name for folder in home.runs.iterdir()] if home.runs.is_dir() else []
    raise DataError(
        f"{name}: no run of that name in {home.runs}, and no folder with a resolved.yaml.{near_miss(name, known)} Give a run's name or folder."
    )


def read_run(folder: Path, *, key: str | None = None, stage: str | None = None, task: str | None = None) -> MixtureRun:
    """Read one finished run.

    Args:
        key: dotted key of a mapping set -> weight, such as `pack.shares`; None: the weights of an rl stage's `mix` sampler.
        stage: whose eval is the score; None: the stage with the `mix` sampler, or the only rl stage.
        task: score one task; None: the run's primary figure.

    Raises:
        DataError: no weights, no such eval, or nothing measured. ConfigError: the stage is not clear.
    """
    config = read_run_settings(folder)
    stage = stage or _stage(folder, config, key)
    key = key or ".".join(("stages", stage, *SAMPLER))
    weights = _weights(folder, config, key)
    metric, score = _score(folder, stage, task)
    others = {name: value for name, value in flat(config).items() if name != key and not name.startswith(f"{key}.")}
    return MixtureRun(folder.name, key, stage, weights, score, metric, others)


def _stage(folder: Path, config: Mapping[str, Any], key: str | None) -> str:
    stages = config.get("stages") or {}
    if key is None:
        found = [name for name, section in stages.items() if _at(section, SAMPLER) is not None]
        why = "has no rl stage with pieces.sampler.mix.weights. Equal weights must be written out too; name other weights with --key"
    else:
        found = [name for name, section in stages.items() if section.get("kind") == "rl"]
        why = "has no rl stage. Name the stage whose eval counts with --stage"
    if not found:
        raise DataError(f"{folder}: {why}.")
    if len(found) > 1:
        raise ConfigError(f"{folder}: the weights could be those of {' or '.join(found)}. Name one with --stage.")
    return str(found[0])


def _weights(folder: Path, config: Mapping[str, Any], key: str) -> dict[str, float]:
    found = _at(config, key.split("."))
    if not isinstance(found, Mapping) or not found:
        raise DataError(f"{folder}/resolved.yaml: {key} is no mapping of sets to weights. Name the right key with --key.")
    try:
        weights = {str(name): float(weight) for name, weight in found.items()}
    except (TypeError, ValueError) as err:
        raise DataError(
            f"{folder}/resolved.yaml: {key} holds something that is no number: {err}. Name another with --key."
        ) from err
    total = math.fsum(weights.values())
    if min(weights.values()) < 0 or not 0 < total < math.inf:
        raise DataError(f"{folder}/resolved.yaml: {key} must be 0 or more with some weight above 0, got {weights}.")
    return {name: weight / total for name, weight in weights.items()}


def _score(folder: Path, stage: str, task: str | None) -> tuple[str, float]:
    steps = sorted((folder / "stages").glob("*-eval")) if (folder / "stages").is_dir() else []
    found = [step for step in steps if re.fullmatch(rf"\d+-{re.escape(stage)}-eval", step.name)]
    if not found or not (found[0] / "eval.json").is_file():
        have = ", ".join(step.name for step in steps) or "none"
        raise DataError(f"{folder}: no finished eval of stage '{stage}' (evals: {have}). Finish the run, or name a --stage.")
    figures = read_json(found[0] / "eval.json")["splits"][SPLIT]
    if task is None:
        metric, value = figures["primary"]["name"], figures["primary"]["value"]
    else:
        if task not in figures["tasks"]:
            raise DataError(
                f"{found[0]}: no task '{task}'.{near_miss(task, figures['tasks'])} Tasks: {', '.join(figures['tasks'])}."
            )
        metric, value = task, figures["tasks"][task]["value"]
    if value is None:
        raise DataError(f"{found[0]}: nothing was measured for {metric}: every verdict failed. Run the eval again.")
    return str(metric), float(value)


def differences(runs: Sequence[MixtureRun]) -> list[str]:
    """Settings beside the mixture and the seed in which the runs differ: the fit would blame the mixture for them."""
    keys = sorted({key for run in runs for key in run.config})
    ignored = {"seed"}
    return [key for key in keys if key not in ignored and len({repr(run.config.get(key)) for run in runs}) > 1]


def _at(tree: Any, path: Sequence[str]) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree
