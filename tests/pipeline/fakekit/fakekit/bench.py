"""Build with the fake kit: in this process, or as a program that a test can kill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from factory.config.compose import Composed, compose
from factory.errors import FactoryError
from factory.pipeline.events import OnEvent, silent
from factory.pipeline.plan import BuildPlan, make_plan
from factory.pipeline.run import run_build
from factory.registry.home import Home


def composed(base: Path, *overrides: str, recipe: str = "embedded") -> Composed:
    return compose("fakekit", recipe=recipe, base=str(base), overrides=list(overrides))


def planned(home: Path, base: Path, *overrides: str, recipe: str = "embedded", run: str = "run") -> BuildPlan:
    return make_plan(composed(base, *overrides, recipe=recipe), home=Home(home), run=run, eval_kind="fake-eval")


def build(home: Path, base: Path, *overrides: str, recipe: str = "embedded", on_event: OnEvent = silent) -> dict[str, Any]:
    return run_build(planned(home, base, *overrides, recipe=recipe), on_event=on_event, arguments=["factory", "build"])


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[4:], recipe=sys.argv[3])
    except FactoryError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
