"""Samplers, pools and supplies in the real stage: a resumed run equals an uninterrupted one, and `mix` ends the stage."""

import pytest
import torch
from safetensors.torch import load_file

RUNS = {
    "sampler.mix": {"sampler": {"mix": {"by": "task", "on_exhausted": "cycle"}}},
    "sampler.rlcs": {"sampler": {"rlcs": {"decay": 0.5, "by": "latest"}}},
    "supply.expansion": {"supply": {"expansion": {"decay": 0.5}}},
    "sampler.kimi_priority": {"sampler": {"kimi_priority": {"opening": 0.8}}},
    "sampler.difficulty_pool": {"sampler": {"difficulty_pool": {"shares": {"easy": 1, "medium": 2, "hard": 2}, "by": "latest"}}},
    "sampler.curriculum": {"sampler": {"curriculum": {"by": "latest"}}},
    "pool.variance_top": {"pool": {"variance_top": {"q": 0.2}}, "sampler": {"variance": {"top": 3}}},
    "pool.retire_solved": {"pool": {"retire_solved": {"times": 2}}},
}


def lasting(row):
    """A row of figures without those that a new process measures anew."""
    return {key: value for key, value in row.items() if not key.startswith("time_") and key != "sampler_gap"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.proves(name, "resume"), pytest.mark.proves(name, "run")]) for name in RUNS]
)
def test_resumed_run_equals_uninterrupted_run(run_stage, name):
    changes = {"num_steps": 5, "prompts_per_step": 2, "pieces": RUNS[name]}
    whole, rows, _ = run_stage("whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", stop_after=4, **changes)
    cut, rest, _ = run_stage("cut", **changes)
    assert 0 < len(rest) < 5, "it must have gone on from a checkpoint"
    assert [lasting(row) for row in rest] == [lasting(row) for row in rows[-len(rest) :]]
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (whole / "rollouts.jsonl").read_text() == (cut / "rollouts.jsonl").read_text()


@pytest.mark.proves("sampler.mix", "run")
def test_an_exhausted_set_ends_the_stage_with_a_model(run_stage):
    workdir, rows, outputs = run_stage(num_steps=5, prompts_per_step=3, pieces={"sampler": {"mix": {"by": "task"}}})
    # four prompts in one set: the second step of three cannot be filled with unseen ones
    assert len(rows) == 2 and rows[0]["mix_unseen/sky"] == 1.0
    assert (workdir / outputs.model / "model.safetensors").is_file()


@pytest.mark.proves("pool.window", "run")
@pytest.mark.proves("pool.retire_solved", "run")
def test_a_pool_that_is_used_up_ends_the_stage_with_a_model(run_stage):
    # Whatever the first answers are: every prompt has some pass rate above -1, so the window sets it aside.
    pieces = {"pool": {"window": {"above": None, "below": -1.0}, "retire_solved": {}}}
    workdir, rows, outputs = run_stage(num_steps=5, prompts_per_step=2, pieces=pieces)
    assert len(rows) == 2 and (workdir / outputs.model / "model.safetensors").is_file()


@pytest.mark.parametrize("preset", ["rlcs", "kimi_sampler", "safe_default"])
def test_presets_train(run_stage, preset):
    _, rows, _ = run_stage(preset=preset, num_steps=2)
    assert len(rows) == 2 and all(row["updates"] in (0.0, 1.0) for row in rows)
