"""The one check that takes a minute: the embedded recipe, cut to a few steps, builds on CPU, resumes, and records its lineage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from factory.testing.subject import CheckFailed, Subject, ensure

SMALL: Mapping[str, int] = {
    "documents": 16, "lessons": 16, "samples": 8, "num_steps": 1, "epochs": 1, "batch_size": 8, "prompts_per_step": 2, "group_size": 2,
    "max_new_tokens": 8,
}  # fmt: skip
"""Setting of any stage -> its value in the check: every part runs, nothing is learned."""
SMALL_EVAL = ("eval.samples=8", "eval.validation_samples=4", "eval.max_new_tokens=8", "eval.bootstrap=50", "eval.blind=false",
              "eval.probes=false", "pool.workers=1")  # fmt: skip
BUILD_BUDGET_S = 900.0
_BUILD = """
import sys
from factory.testing.checks_build import build_in_two_goes
print("BUILT " + build_in_two_goes(sys.argv[1], sys.argv[2]))
"""


class _Stopped(Exception):
    """Raised in the middle of the first build, as a kill would end it."""


def embedded_recipe_builds(subject: Subject) -> None:
    """The recipe `embedded`, cut to a few steps, builds on CPU without a download, goes on after a stop, and writes its lineage."""
    with tempfile.TemporaryDirectory(prefix="factory-check-") as home:
        try:
            told = subject.in_new_process(_BUILD, [subject.entry.name, home], timeout=BUILD_BUDGET_S)
        except CheckFailed as err:
            cause = str(err).partition(" Run it alone")[0].removeprefix("in a new process the pack fails: ")
            raise CheckFailed(
                f"recipes/embedded.yaml: does not build: {cause} See it all with: factory build --domain {subject}"
            ) from err
    found = json.loads(next(line for line in told.splitlines() if line.startswith("BUILT "))[len("BUILT ") :])
    ensure(
        found["kept"] == found["finished_before"],
        f"recipes/embedded.yaml: after a stop the build ran {', '.join(found['again']) or 'nothing'} again, although finished. "
        "Something that the pack reads changes from run to run: no clock, no random file names.",
    )
    unmeasured = [name for name in found["stages"] if name not in found["measured"]]
    ensure(
        not unmeasured,
        f"recipes/embedded.yaml: {', '.join(unmeasured)} has no eval. Verifiers failed on every sample; see eval.json.",
    )
    absent = [name for name in found["steps"] if name not in found["lineage"]]
    ensure(
        not absent,
        f"recipes/embedded.yaml: the built model's lineage lacks {', '.join(absent)}. Its folders must not be written to.",
    )
    ensure(found["sources"] > 0, "pack.yaml: the model's record names no data source. List every source under `data`.")
    ensure(not found["damaged"], f"recipes/embedded.yaml: damaged files in the registry: {found['damaged']}. Build again.")


def small_overrides(stages: Mapping[str, Any]) -> list[str]:
    """`--set` texts that cut every stage to a few steps."""
    found = list(SMALL_EVAL)
    for name, stage in stages.items():
        known = {field.name for field in fields(stage)}
        found += [f"stages.{name}.{key}={value}" for key, value in SMALL.items() if key in known]
    return found


def build_in_two_goes(name: str, home: str) -> str:
    """Build, stop after the first stage, build again; what came of it as JSON. Runs in a process of its own.

    Raises:
        FactoryError: whatever the build raises.
    """
    from factory.config.compose import compose
    from factory.pipeline.plan import make_plan
    from factory.pipeline.run import run_build
    from factory.registry.home import Home
    from factory.registry.models import Registry
    from factory.report import build_report

    place = Home(Path(home))
    overrides = small_overrides(compose(name, recipe="embedded").config.stages)
    composed = compose(name, recipe="embedded", overrides=overrides)
    before: list[str] = []
    kept: list[str] = []
    again: list[str] = []

    def stop_early(event: Any) -> None:
        if event.kind == "step-end":
            before.append(event.step)
            if len(before) == 3:  # the base, its eval, and the first stage
                raise _Stopped

    def watch(event: Any) -> None:
        if event.kind == "step-skip":
            kept.append(event.step)
        elif event.kind == "step-start" and event.step in before:
            again.append(event.step)

    with suppress(_Stopped):
        run_build(make_plan(composed, home=place), on_event=stop_early)
    plan = make_plan(composed, home=place)
    result = dict(run_build(plan, on_event=watch))
    build_report(plan.folder.root)
    registry = Registry(place.registry)
    record = registry.show(result["model"]["id"])
    return json.dumps(
        {
            "finished_before": before, "kept": kept, "again": again, "steps": [step.name for step in plan.steps],
            "stages": ["base", *(step.step.stage for step in plan.steps if step.step.makes_model)],
            "measured": [row["stage"] for row in result["rows"] if row["validation"] is not None],
            "lineage": [step.name for step in record.lineage], "sources": len(record.data["sources"]),
            "damaged": [str(problem) for problem in registry.verify()],
        }
    )  # fmt: skip


CHECKS = (embedded_recipe_builds,)
