"""Presets of estimators and losses in the real stage: rollouts, verifier workers, updates, figures."""

import pytest
import torch
from safetensors.torch import load_file
from test_stage import probability_of_blue


@pytest.mark.proves("loss.reinforce", "run")
@pytest.mark.proves("loss.cispo", "run")
@pytest.mark.proves("loss.oreal", "run")
@pytest.mark.proves("loss.gspo", "run")
@pytest.mark.parametrize("preset", ["rloo", "cispo", "oreal", "gspo"])
def test_it_learns_the_rewarded_answer(run_stage, base, preset):
    workdir, _, outputs = run_stage(preset=preset, num_steps=12)
    before, after = probability_of_blue(base), probability_of_blue(workdir / outputs.model)
    assert after > before + 0.2, f"{before:.3f} -> {after:.3f}"


@pytest.mark.proves("loss.kl_cov", "run")
@pytest.mark.proves("auxiliary.kl_cov_penalty", "run")
@pytest.mark.proves("advantage.reinforce_pp", "run")
@pytest.mark.proves("weigh.advantage_filter", "run")
@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "kl_cov", "minibatches": 2, "updates_per_rollout": 2},
        {"preset": "intern_s1", "minibatches": 2, "pieces": {"step_rule": {"max_grad_norm": {"limit": 100.0}}}},
        {"preset": "reinforce_pp", "pieces": {"kl": {"k1": {"place": "reward", "coef": 0.1}}}},
        {"preset": "stable_reinforce", "group_size": 1, "prompts_per_step": 16},
    ],
    ids=lambda changes: changes["preset"],
)
def test_it_trains_with_all_its_parts(run_stage, base, changes):
    workdir, rows, _ = run_stage(num_steps=2, **changes)
    before, after = load_file(base / "model.safetensors"), load_file(workdir / "model" / "model.safetensors")
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    assert all(row["tokens"] > 0 and row["grad_norm"] > 0 for row in rows)


@pytest.mark.proves("kl_schedule.adaptive", "run")
def test_the_adaptive_coefficient_follows_the_measured_kl(run_stage):
    # On the first step the policy is its reference, so the KL is below the target and the coefficient falls by
    # 20% * 32 rollouts / 64 = 10%.
    pieces = {"kl": {"k3": {"coef": 0.1}}, "kl_schedule": {"adaptive": {"target": 1e-3, "horizon": 64.0}}}
    _, rows, _ = run_stage(num_steps=3, pieces=pieces)
    assert rows[0]["kl_coef"] == pytest.approx(0.1) and rows[1]["kl_coef"] == pytest.approx(0.09)
    expected = 0.09 * (1 + max(-0.2, min(0.2, rows[1]["kl"] / 1e-3 - 1)) * 32 / 64)
    assert rows[2]["kl_coef"] == pytest.approx(expected)
