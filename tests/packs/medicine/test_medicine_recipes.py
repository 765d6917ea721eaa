"""Published recipes say what the papers say, and the multi-agent recipe runs on the embedded base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.config.compose import compose
from factory.config.layers import recipe_names
from factory.stages.rl.presets import resolve

FOLDER = Path(__file__).parents[3] / "domains" / "medicine"


def recipe(name: str):
    return compose("medicine", recipe=name).config


@pytest.mark.parametrize("name", recipe_names(FOLDER))
def test_rl_stages_resolve(name):
    for stage in recipe(name).stages.values():
        if stage.kind == "rl":
            resolve(stage)


def test_lingshu_has_four_stages_at_the_papers_rates():
    config = recipe("lingshu")
    assert list(config.stages) == ["align_shallow", "align_deep", "instruct", "rl"]
    shallow = config.stages["align_shallow"].optim
    assert (shallow.lr * shallow.vision_lr_scale, shallow.lr * shallow.projector_lr_scale) == pytest.approx((2e-6, 1e-5))
    assert shallow.language_lr_scale == 0.0
    rl = config.stages["rl"]
    assert (rl.prompts_per_step, rl.prompts_per_step // rl.minibatches, rl.group_size) == (512, 128, 16)
    assert (rl.optim.lr, rl.temperature, rl.max_new_tokens) == (1e-6, 1.0, 4096)
    assert resolve(rl).made["kl.k3"].coef == 1e-3
    assert config.mixture["*"]["format"] == 0.5


@pytest.mark.parametrize("name", ["mmedagent-rl", "mmedagent-rl-embedded"])
def test_the_attending_physician_learns_from_easy_to_hard_with_growing_entropy(name):
    config = recipe(name)
    triage, attending = config.stages["triage"], config.stages["attending"]
    assert triage.tasks == ["triage"] and triage.control and attending.tasks == ["attending"]
    assert attending.start != "triage"
    chosen = resolve(attending)
    assert chosen.made["sampler.curriculum"].tiers == ["easy", "medium", "hard"]
    entropy = chosen.made["auxiliary.staged_entropy"]
    assert [entropy.coef(progress) for progress in (0.1, 0.5, 0.9)] == [entropy.easy, entropy.medium, entropy.hard]
    assert entropy.easy == 0.0 < entropy.medium < entropy.hard


def test_huatuo_is_paid_by_its_own_reward_alone():
    config = recipe("huatuogpt-o1")
    assert config.pack["form"] == "huatuo"
    for task, weights in config.mixture.items():
        assert {name for name, weight in weights.items() if weight > 0} == {"huatuo"}, task
    rl = config.stages["rl"]
    assert (rl.optim.lr, rl.temperature, rl.max_new_tokens, rl.updates_per_rollout) == (5e-7, 0.5, 1300, 3)
    assert resolve(rl).made["kl.k1"].coef == 0.03


def test_med_r1_with_and_without_thinking():
    thinking, bare = recipe("med-r1"), recipe("med-r1-no-thinking")
    assert bare.pack["form"] == "answer" and "form" not in thinking.pack
    for config in (thinking, bare):
        assert config.stages["rl"].group_size == 4 and config.stages["rl"].start == "base"
        assert config.stages["sft"].control and config.stages["sft"].optim.lr == 2e-5
        assert config.mixture["*"]["format"] == 1.0


@pytest.mark.slow
def test_mmedagent_runs_on_the_embedded_base(tmp_path, monkeypatch):
    from factory.pipeline.plan import make_plan
    from factory.pipeline.run import run_build

    monkeypatch.setenv("FACTORY_HOME", str(tmp_path))
    small = ["eval.samples=16", "eval.validation_samples=8", "eval.probes=false", "eval.blind=false", "eval.bootstrap=50"]
    small += ["stages.cpt.documents=32", "stages.cpt.epochs=1", "stages.sft.lessons=32", "stages.sft.epochs=1"]
    for stage in ("rl", "triage", "attending"):
        small += [f"stages.{stage}.{key}" for key in ("num_steps=3", "samples=24", "prompts_per_step=2", "group_size=4")]
    run_build(make_plan(compose("medicine", recipe="mmedagent-rl-embedded", overrides=small)))
    [metrics] = tmp_path.glob("runs/*/stages/*-attending/metrics.jsonl")
    stages = [row["curriculum_stage"] for row in map(json.loads, metrics.read_text().splitlines()) if "curriculum_stage" in row]
    assert stages == [0.0, 1.0, 2.0]
