"""The published stage orders: each is readable, says what it is, and plans for every pack that has what it needs."""

import pytest

from factory.config.compose import compose
from factory.config.layers import find_recipe, read_yaml, shared_recipes
from factory.errors import ConfigError
from factory.pipeline.plan import make_plan
from factory.plugins import find_pack, pack_entries, pack_folder, read_manifest

RECIPES = shared_recipes()
BUILT_IN = sorted(entry.name for entry in pack_entries())


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("pack", BUILT_IN)
def test_a_shared_recipe_plans_for_a_pack_that_has_what_it_needs(pack, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path))
    folder = pack_folder(find_pack(pack))
    if (folder / "recipes" / f"{recipe}.yaml").is_file():
        pytest.skip("the pack has its own recipe of this name, for a real base; its tests plan it")
    manifest = read_manifest(folder)
    stages = read_yaml(RECIPES[recipe], "recipe").values["stages"].values()
    wants_corpus = any(stage.get("kind") == "cpt" for stage in stages)
    composed = compose(pack, recipe=recipe)
    if any(stage.get("media") == "images" for stage in stages) and composed.config.base != "embedded-vl":
        with pytest.raises(
            ConfigError, match=r"stages\.\w+\.media=images: the base model reads no images\. .* leave the stage out"
        ):
            make_plan(composed)
        return
    if wants_corpus and "corpus" not in manifest.provides:
        with pytest.raises(ConfigError, match="provides no"):
            make_plan(composed)
        return
    plan = make_plan(composed)
    assert [step.step.stage for step in plan.steps if step.step.role == "stage"] == list(composed.config.stages)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_shared_recipe_says_what_it_is(recipe):
    values = read_yaml(RECIPES[recipe], "recipe").values
    assert len(values["description"]) > 40 and values["stages"]


def test_a_packs_own_recipe_wins(tmp_path):
    (tmp_path / "recipes").mkdir()
    own = tmp_path / "recipes" / "long2short.yaml"
    own.write_text("description: mine\n")
    assert find_recipe("long2short", tmp_path, beside=tmp_path, place="--recipe") == own
    assert find_recipe("luffy", tmp_path, beside=tmp_path, place="--recipe") == RECIPES["luffy"]
