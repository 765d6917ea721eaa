"""`factory plan`: what a build would do, cost and write. Nothing is run, loaded, fetched or written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from factory.cli import options
from factory.cli.output import count, emit_json, say, size, span, table

if TYPE_CHECKING:
    from factory.config.compose import Composed
    from factory.pipeline.plan import BuildPlan
    from factory.pipeline.steps import Step


def plan(
    domain: options.Domain = None, recipe: options.Recipe = None, base: options.Base = None, data: options.DataPaths = None,
    overrides: options.Set = None, seed: options.Seed = None, run: options.Run = None, online: options.Online = False,
    config: options.Config = None, mix: options.Mix = None, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Show what `factory build` with the same options would do: steps, tokens, memory, time, what is finished and written."""
    composed = options.composed_from(domain, recipe, base, data, overrides, seed, online, config, mix)
    made = plan_of(composed, run)
    if as_json:
        emit_json(plan_json(made))
    else:
        show_plan(made)


def plan_of(composed: Composed, run: str | None) -> BuildPlan:
    """Plan a composed config, after refusing data that is not there."""
    from factory.config.validate import require_data
    from factory.pipeline.plan import make_plan

    require_data(composed.config, composed.provenance)
    return make_plan(composed, run=run)


def plan_json(made: BuildPlan) -> dict[str, Any]:
    """The plan with the config it was made for."""
    from factory.config.render import echo

    return {**made.to_json(), "config": made.composed.plain, "command_line": echo(made.composed), "writes": made.writes()}


def show_plan(made: BuildPlan) -> None:
    """Print a plan for people."""
    from factory.config.render import echo

    config = made.config
    say(
        f"run      {made.run}",
        f"domain   {config.domain} (pack {made.pack['version']}), recipe {config.recipe}, "
        f"seed {config.seed}, {config.precision.value}",
        f"base     {made.base.ref}: {count(made.base.facts.num_params)} parameters, {made.base.facts.modality}",
        f"data     {', '.join(config.data.paths) or 'the generator of the pack'}",
        f"device   {made.device.name}",
    )
    heard = echo(made.composed)
    if heard:
        say(
            table(
                ("setting", "value", "type", "given by"),
                [(r["key"], r["value"], r["type"], r["flag"]) for r in heard],
                title="Command line",
            )
        )
    columns = ("step", "kind", "from", "samples", "steps", "trained", "sampled", "memory", "time", "state")
    say(table(columns, _rows(made), title="Steps (tokens and times are estimates)", right=columns[3:9]))
    for line in _remarks(made):
        say(line)
    todo = f"{len(made.to_run)} of {len(made.steps)} steps to run"
    say(
        f"total    {todo}, about {span(made.seconds)}, "
        f"peak memory {size(made.peak_memory_bytes)} a process, {size(made.disk_bytes)} of disk"
    )
    say("writes   " + "\n         ".join(made.writes()))


def _rows(made: BuildPlan) -> Iterator[tuple[str, ...]]:
    for planned in made.steps:
        cost = planned.plan
        state = "finished" if planned.is_cached else planned.why
        yield (
            planned.name, planned.step.kind, _from(planned.step),
            *(count(n) if n else "" for n in (cost.num_samples, cost.num_steps, cost.num_tokens, cost.num_generated_tokens)),
            size(planned.memory_bytes),
            "" if planned.is_cached else span(planned.seconds), state,
        )  # fmt: skip


def _from(step: Step) -> str:
    """Where the model comes from, and the other steps whose files are read."""
    others = [name for name in step.reads.values() if name != step.start]
    return (step.start or "") + "".join(f" + {name}" for name in others)


def _remarks(made: BuildPlan) -> Iterator[str]:
    """Notes of the stages, each said once; the formula of the largest step's memory."""
    told: dict[str, list[str]] = {}
    for planned in made.steps:
        for note in planned.plan.notes:
            told.setdefault(note, []).append(planned.name)
    for note, names in told.items():
        yield f"note     {', '.join(names)}: {note}"
    for note in made.notes:
        yield f"note     {note}"
    largest = max(made.steps, key=lambda planned: planned.memory_bytes)
    process = f"libraries and pack {size(largest.process_bytes)} + " if largest.process_bytes else ""
    yield f"memory   {largest.name}: {process}{largest.plan.memory_formula}"
