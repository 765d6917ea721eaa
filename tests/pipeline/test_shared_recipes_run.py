"""Every shared recipe, run whole and shrunk on an embedded base: all its stages in order, every one measured.

The pack has all that a recipe may ask for (`colourkit`); the built-in ones that lack something are refused in `plan`, which is
tested in `test_shared_recipes.py`. RECIPES_PACK and RECIPES_BASE name another pack and a model folder that answers its questions.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from in_process import in_process

from factory.config.compose import Composed, compose
from factory.config.layers import shared_recipes
from factory.pipeline.plan import make_plan
from factory.pipeline.run import run_build
from factory.plugins import load_stage

KIT = Path(__file__).parent / "colourkit"
PACK = os.environ.get("RECIPES_PACK", "colourkit")
QUICK = ("long2short", "luffy", "revisual-r1")
"""Between them: selection, lessons and pairs from it, DPO; teacher traces; stages of text and of images."""
FEW: dict[str, dict[str, Any]] = {
    "cpt": {"documents": 16, "epochs": 1, "batch_size": 8},
    "sft": {"lessons": 16, "epochs": 1, "batch_size": 8},
    "rl": {"num_steps": 2, "samples": 16, "prompts_per_step": 4, "group_size": 4, "max_new_tokens": 24, "minibatches": 1},
    "select": {"samples": 16, "rollouts": 4, "max_new_tokens": 24},
    "preference": {"pairs": 8, "epochs": 1, "batch_size": 4},
    "reward_model": {"pairs": 8, "epochs": 1, "batch_size": 4},
}
EVAL = {"samples": 6, "validation_samples": 6, "max_new_tokens": 24, "blind": "false", "probes": "false", "bootstrap": 50}


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """The pack installed, here and for the verifiers' processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(KIT))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(KIT), os.environ.get("PYTHONPATH", "")])))
        load_stage.cache_clear()
        yield
    load_stage.cache_clear()


@pytest.fixture(scope="module")
def base(kit, tmp_path_factory):
    """A model folder whose answers are right at times."""
    given = os.environ.get("RECIPES_BASE")
    if given:
        return Path(given)
    from colourkit import guessing

    return guessing(tmp_path_factory.mktemp("guessing"))


def shrunk(recipe: str, base: Path) -> Composed:
    """The recipe with a few steps a stage. Its order, kinds, presets, pieces, starts and reads stay."""
    settings = [f"eval.{key}={value}" for key, value in EVAL.items()]
    for name, stage in compose(PACK, recipe=recipe, base=str(base)).config.stages.items():
        settings += [f"stages.{name}.{key}={value}" for key, value in FEW.get(stage.kind, {}).items()]
        if stage.kind == "rl" and stage.preset == "dapo":
            # So few prompts may all be answered alike, which dapo takes for an error.
            settings.append(f"stages.{name}.pieces.supply.refill.on_spent=train_smaller")
        if stage.kind == "rl" and stage.preset == "vision_r1_ptst":
            # Its last groups are a quarter as large.
            settings.append(f"stages.{name}.group_size=8")
    return compose(PACK, recipe=recipe, base=str(base), overrides=settings)


def assert_runs_whole(recipe: str, base: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build it; every stage has trained or written something, and every model was measured."""
    monkeypatch.setenv("FACTORY_HOME", str(home))
    composed = shrunk(recipe, base)
    plan = make_plan(composed)
    with in_process():
        result = run_build(plan, register=False)
    assert result["chosen"]
    for step in plan.steps:
        folder = plan.folder.final(step.name)
        assert folder.is_dir(), f"{recipe}: {step.name} was not done"
        if step.step.role == "stage" and step.step.kind in ("cpt", "sft", "rl", "preference"):
            rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert rows and all(math.isfinite(row["loss"]) for row in rows), f"{recipe}: {step.name} has not trained"


@pytest.mark.parametrize("recipe", QUICK)
def test_a_published_order_runs_whole(base, recipe, tmp_path, monkeypatch):
    assert_runs_whole(recipe, base, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in shared_recipes() if name not in QUICK])
def test_every_published_order_runs_whole(base, recipe, tmp_path, monkeypatch):
    assert_runs_whole(recipe, base, tmp_path, monkeypatch)
