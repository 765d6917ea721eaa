"""Every published stage order, run whole on a small taught model: a few steps a stage, from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.config.compose import compose
from factory.config.layers import shared_recipes

ROOT = Path(__file__).resolve().parents[2]
NEEDS_TEXT = {"revisual-r1", "lmm-r1", "infi-mmr"}
"""Recipes with a text-only stage; the pathology generator has images in every question."""
FEW = {
    "cpt": {"documents": 16, "epochs": 1, "batch_size": 8},
    "sft": {"lessons": 16, "epochs": 1, "batch_size": 8},
    "rl": {"num_steps": 1, "samples": 16, "prompts_per_step": 4, "group_size": 4, "max_new_tokens": 24, "minibatches": 1},
    "select": {"samples": 24, "rollouts": 4, "max_new_tokens": 48},
    "preference": {"pairs": 8, "epochs": 1, "batch_size": 4},
}
EVAL = {"samples": 8, "validation_samples": 8, "max_new_tokens": 48, "blind": "false", "probes": "false", "bootstrap": 50}


def factory(home: Path, *words: str) -> str:
    environment = {**os.environ, "FACTORY_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = "from factory.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A model folder that answers some questions: the embedded recipe up to SFT. RECIPES_BASE names one that is there already."""
    given = os.environ.get("RECIPES_BASE")
    if given:
        return Path(given)
    home = tmp_path_factory.mktemp("taught")
    factory(home, "build", "-d", "pathology", "--run", "taught", "-s", "stages.rl=null", "--json")
    return home / "runs" / "taught" / "stages" / "04-sft" / "model"


def few(recipe: str, base: Path) -> list[str]:
    settings = [f"eval.{key}={value}" for key, value in EVAL.items()]
    for name, stage in compose("pathology", recipe=recipe, base=str(base)).config.stages.items():
        settings += [f"stages.{name}.{key}={value}" for key, value in FEW.get(stage.kind, {}).items()]
        if stage.kind == "rl":
            # So few prompts may all be answered alike.
            settings.append(f"stages.{name}.pieces.supply=fixed")
    return [word for setting in settings for word in ("-s", setting)]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in shared_recipes() if name not in NEEDS_TEXT])
def test_a_published_order_runs_whole(taught, recipe, tmp_path):
    out = factory(tmp_path, "build", "-d", "pathology", "-r", recipe, "-b", str(taught), "--json", *few(recipe, taught))
    assert json.loads(out)["result"]["chosen"]
