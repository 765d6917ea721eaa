"""The pack in a build: which base a mode gets, every recipe, the kit's checks in visual mode too, and quick builds end to end."""

from __future__ import annotations

import pytest

from factory.config.compose import compose
from factory.config.layers import recipe_names
from factory.contracts import DataRequest
from factory.domains.music.pack import PACK
from factory.errors import FactoryError
from factory.pipeline.base_ref import find_base_ref, modality_of
from factory.pipeline.plan import make_plan
from factory.plugins import find_pack, pack_folder
from factory.registry.home import Home
from factory.rewards.mixture import Mixture


def test_text_mode_takes_a_text_base_and_visual_mode_does_not():
    assert modality_of(PACK, {}) == "text" and modality_of(PACK, {"mode": "visual"}) == "vl"
    assert find_base_ref("embedded-text", None, modality_of(PACK, {"mode": "text"}), online=False).facts.modality == "text"
    with pytest.raises(FactoryError, match="vision-language"):
        find_base_ref("embedded-text", None, modality_of(PACK, {"mode": "visual"}), online=False)


def test_a_pack_without_a_word_on_it_keeps_its_manifests_modality():
    from factory.domains.pathology.pack import PACK as PATHOLOGY

    assert modality_of(PATHOLOGY, {}) == "vl"


@pytest.mark.parametrize(("recipe", "base"), [("embedded", "embedded-text"), ("embedded-visual", "embedded-vl")])
def test_plans_of_the_embedded_recipes(recipe, base, tmp_path):
    plan = make_plan(compose("music", recipe=recipe), home=Home(tmp_path))
    assert plan.base.ref == base
    assert [step.step.name for step in plan.steps if step.step.role == "stage"] == ["02-cpt", "04-sft", "06-rl"]


def test_every_recipe_asks_for_tasks_that_exist():
    folder = pack_folder(find_pack("music"))
    assert {"embedded", "embedded-visual", "ssmr", "ssmr-visual", "three-stage"} <= set(recipe_names(folder))
    for recipe in recipe_names(folder):
        config = compose("music", recipe=recipe).config
        if config.pack.get("images") == "sheet":
            pytest.importorskip("verovio")
        for sample in PACK.samples("train", 0, DataRequest(limit=3, options=config.pack)):
            assert sample.task in PACK.manifest.tasks


def test_ssmr_pays_the_letter_alone():
    config = compose("music", recipe="ssmr").config
    assert list(config.stages) == ["rl"]  # reinforcement learning from the base model, no SFT
    mixture = Mixture(PACK.manifest.tasks, overrides=config.mixture, known=PACK.verifiers())
    for sample in PACK.samples("train", 0, DataRequest(limit=20, options=config.pack)):
        names = mixture.verifiers_for(sample.task)
        for text, paid in ((f"\\boxed{{{sample.reference}}}", 1.0), ("\\boxed{A}\\boxed{B}", 0.0), ("\\boxed{E}", 0.0)):
            verdicts = {name: PACK.verifiers()[name](text, sample) for name in names}
            assert mixture.combine(sample.task, verdicts).value == paid


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [["base=embedded-text"], ["base=embedded-vl", "pack.mode=visual", "pack.shares={interval: 1, chord: 1}", "pack.span=staff"]],
)
def test_a_quick_build_runs_through(tmp_path, overrides, monkeypatch):
    from factory.pipeline.run import run_build

    monkeypatch.setenv("FACTORY_HOME", str(tmp_path))
    plan = make_plan(compose("music", recipe="embedded-quick", overrides=overrides), home=Home(tmp_path), run="quick")
    run_build(plan, arguments=["factory", "build"])
    assert (plan.folder.root / "report.html").is_file()
