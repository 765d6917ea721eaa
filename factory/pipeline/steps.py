"""The steps of a build in order: the base, then every stage of the recipe, each followed by its eval. Names, starts, refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.errors import ConfigError, near_miss
from factory.plugins import load_stage

BASE = "base"
STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")


@dataclass(frozen=True)
class Step:
    """One folder under `stages/`."""

    name: str
    """`<NN>-<stage>` or `<NN>-<stage>-eval`."""
    stage: str
    """The recipe's stage (or `base`) that this step makes or measures."""
    kind: str
    """`base`, or a stage kind."""
    role: str
    """`base`, `stage` or `eval`."""
    start: str | None
    """Name of the step whose model it takes."""
    control: bool = False
    makes_model: bool = False
    reads: Mapping[str, str] = field(default_factory=dict)
    """Stage (or `base`) -> step, of those whose files it reads."""


def order_steps(stages: Mapping[str, Any], *, eval_kind: str = "eval") -> list[Step]:
    """Lay out the steps of a recipe.

    Args:
        stages: name -> config with `kind`, `start` and `control`, in the order of the recipe.
        eval_kind: stage kind of the measurement.

    Raises:
        ConfigError: a name that cannot be a folder; a start that is unknown, later, circular or makes no model; a stage in
            `reads` that is unknown or not earlier.
        PluginError: an unknown stage kind.
    """
    starts, read = resolve_starts(stages), resolve_reads(stages)
    steps = [Step("00-base", BASE, BASE, BASE, None, makes_model=True), Step("01-base-eval", BASE, eval_kind, "eval", "00-base")]
    made_by = {BASE: "00-base"}
    for name, config in stages.items():
        makes_model = _makes_model(config)
        step = Step(
            f"{len(steps):02d}-{name}", name, config.kind, "stage", made_by[starts[name]], config.control, makes_model,
            {other: made_by[other] for other in read[name]},
        )  # fmt: skip
        steps.append(step)
        made_by[name] = step.name
        if makes_model:
            steps.append(Step(f"{len(steps):02d}-{name}-eval", name, eval_kind, "eval", step.name, config.control))
    return steps


def resolve_starts(stages: Mapping[str, Any]) -> dict[str, str]:
    """Stage -> the stage (or `base`) it starts from. By default the last earlier stage that makes a model and is no control."""
    _refuse_names(stages)
    _refuse_circles(stages)
    starts: dict[str, str] = {}
    default = BASE
    for name, config in stages.items():
        wanted = config.start or default
        if wanted != BASE and wanted not in stages:
            raise ConfigError(
                f"stages.{name}.start is '{wanted}', which is no stage of this build.{near_miss(wanted, [BASE, *stages])} "
                f"Use one of: {', '.join([BASE, *starts])}."
            )
        if wanted != BASE and wanted not in starts:
            raise ConfigError(
                f"stages.{name}.start is '{wanted}', which comes later in the recipe. List '{wanted}' before '{name}'."
            )
        if wanted != BASE and not _makes_model(stages[wanted]):
            raise ConfigError(
                f"stages.{name}.start is '{wanted}', which makes no model. Start from a stage that trains, or from base."
            )
        starts[name] = wanted
        if _makes_model(config) and not config.control:
            default = name
    return starts


def resolve_reads(stages: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Stage -> the earlier stages (or `base`) whose files it reads: its `reads`, and what its kind finds in other settings.

    A stage kind may offer `reads(config) -> tuple[str, ...]` (sft names the stage of `lessons_from` there). A control may be
    read, as it may be started from: only what happens by default passes over controls.

    Raises:
        ConfigError: a name that is no stage, this stage itself, or a later one.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, config in stages.items():
        offered = getattr(load_stage(config.kind), "reads", None)
        wanted = dict.fromkeys([*getattr(config, "reads", ()), *(offered(config) if offered else ())])
        for other in wanted:
            _refuse_read(name, other, [BASE, *found], stages)
        found[name] = tuple(wanted)
    return found


def _refuse_read(name: str, other: str, earlier: list[str], stages: Mapping[str, Any]) -> None:
    if other in earlier:
        return
    if other == name:
        raise ConfigError(f"stages.{name} reads itself. Name an earlier stage: {', '.join(earlier)}.")
    if other in stages:
        raise ConfigError(f"stages.{name} reads '{other}', which comes later in the recipe. List '{other}' before '{name}'.")
    raise ConfigError(
        f"stages.{name} reads '{other}', which is no stage of this build.{near_miss(other, earlier)} "
        f"Use one of: {', '.join(earlier)}. A file is written with a slash or a dot: ./{other}."
    )


def _makes_model(config: Any) -> bool:
    return "model" in load_stage(config.kind).produces


def _refuse_names(stages: Mapping[str, Any]) -> None:
    for name in stages:
        if name == BASE or name.endswith("-eval") or not STAGE_NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name a stage. Use small letters, digits, '_' and '-', not '{BASE}' and not an '-eval' ending: "
                "it becomes a folder, and the eval after it takes that ending."
            )


def _refuse_circles(stages: Mapping[str, Any]) -> None:
    for first in stages:
        path, name = [first], stages[first].start
        while name in stages and name not in path:
            path.append(name)
            name = stages[name].start
        if name == first:
            raise ConfigError(
                f"stages start from each other in a circle: {' <- '.join([*path, first])}. Let one of them start from base."
            )
