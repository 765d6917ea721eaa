"""The whole stage on a real tiny model with the real worker pool: it learns, resumes exactly, masks failures."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from factory.contracts import Message
from factory.errors import TrainingError


def weights(workdir: Path) -> dict[str, torch.Tensor]:
    return load_file(workdir / "model" / "model.safetensors")


def probability_of_blue(folder: Path) -> float:
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load

    loaded = load(folder, precision="fp32")
    rows = [loaded.codec.lesson((Message("user", f"the sky at {sky} is"),), "blue") for sky in ("dawn", "noon", "dusk", "night")]
    with torch.no_grad():
        logp, _ = token_logprobs(loaded.model, loaded.codec.collate(rows))
    return logp.sum(1).exp().mean().item()


@pytest.mark.parametrize("preset", ["grpo", "dapo_oversample"])
def test_rl_raises_the_probability_of_the_rewarded_answer(run_stage, base, preset):
    workdir, rows, outputs = run_stage(preset=preset, num_steps=15)
    before, after = probability_of_blue(base), probability_of_blue(workdir / outputs.model)
    # Taught to answer one of three words at random, it must come to prefer the one that is rewarded.
    assert before < 0.5
    assert after > before + 0.3, f"{before:.3f} -> {after:.3f}"
    assert rows[-1]["reward"] > rows[0]["reward"]


def test_a_step_logs_what_the_report_reads(run_stage):
    workdir, rows, outputs = run_stage(num_steps=2, pieces={"kl": {"k3": {"coef": 0.01}}})
    wanted = {
        "step",
        "total",
        "loss",
        "lr",
        "grad_norm",
        "tokens",
        "reward",
        "reward/exact",
        "zero_advantage_share",
        "masked_share",
        "entropy",
        "length",
        "length_right",
        "length_wrong",
        "clip_share",
        "clip_share_low",
        "clip_share_high",
        "kl",
        "time_s",
        "time_rollouts_s",
        "time_update_s",
    }
    assert wanted <= set(rows[0])
    assert [(row["step"], row["total"]) for row in rows] == [(1, 2), (2, 2)]
    # On the first step policy and reference are the same model: rounding only.
    assert abs(rows[0]["kl"]) < 1e-6 < rows[1]["kl"]
    assert rows[0]["sampler_gap"] < 1e-4 and "sampler_gap" not in rows[1]
    assert rows[0]["clip_share"] == 0.0
    kept = [json.loads(line) for line in (workdir / "rollouts.jsonl").read_text().splitlines()]
    assert len(kept) == 2 * 4 * 2 and kept[0]["statuses"].keys() == {"exact"}
    assert outputs.metrics["verdicts"]["exact"].keys() >= {"ok", "wrong"}


RESUMABLE = {
    "plain": {},
    "updates": {"updates_per_rollout": 2, "minibatches": 2},
    "kl": {"pieces": {"kl": {"k3": {"coef": 0.1}}}},
    "kl_in_reward": {"pieces": {"kl": {"k1": {"coef": 0.1, "place": "reward"}}}},
    "adaptive_kl": {"pieces": {"kl": {"k3": {"coef": 0.1}}, "kl_schedule": {"adaptive": {"target": 1e-3, "horizon": 64.0}}}},
    "mirror_descent": {"pieces": {"loss": {"mirror_descent": {"tau": 0.1}}, "advantage": "group_mean"}, "updates_per_rollout": 2},
    # Buffers. Small steps, so that no prompt is solved for good and queues keep something to give.
    "exgrpo": {"preset": "exgrpo", "optim": {"lr": 1e-4}, "pieces": {"inject": {"exgrpo": {"start_rate": 0.05}}}},
    "ssr": {"preset": "ssb_like", "group_size": 2, "optim": {"lr": 1e-4}},
    "arpo": {"preset": "arpo", "group_size": 2, "optim": {"lr": 1e-5}},
}


REPLAYED = {"exgrpo": "exgrpo/replayed", "ssr": "ssr/replayed", "arpo": "arpo/replayed"}
"""The figure that shows that a buffer gave something after the resume."""


@pytest.mark.parametrize("name", RESUMABLE)
def test_resumed_run_equals_uninterrupted_run(run_stage, name):
    changes = RESUMABLE[name] | {"num_steps": 5, "samples": 3}
    whole, rows, _ = run_stage("whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", stop_after=4, **changes)
    cut, rest, _ = run_stage("cut", **changes)
    assert 0 < len(rest) < 5, "it must have gone on from a checkpoint"
    for key in ("step", "loss", "reward", "grad_norm"):
        assert [row.get(key) for row in rest] == [row.get(key) for row in rows[-len(rest) :]]
    if name in REPLAYED:
        figures = [row[REPLAYED[name]] for row in rest]
        assert any(figures) and figures == [row[REPLAYED[name]] for row in rows[-len(rest) :]]
    one, other = weights(whole), weights(cut)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "rollouts.jsonl").read_text() == (cut / "rollouts.jsonl").read_text()


def test_masked_rollouts_are_counted_and_teach_nothing(run_stage):
    # The verifier fails on every `blue`; without the mask those would count as wrong and blue would be unlearned.
    workdir, rows, outputs = run_stage(verifier="flaky", num_steps=2)
    assert 0 < rows[0]["masked_share"] < 1
    assert outputs.metrics["verdicts"]["flaky"]["error"] > 0
    kept = [json.loads(line) for line in (workdir / "rollouts.jsonl").read_text().splitlines()]
    masked = [row for row in kept if row["masked"]]
    assert masked and all(row["value"] is None and row["advantage"] == 0.0 for row in masked)


def test_a_spent_refill_budget_stops_with_an_error_or_early_with_a_model(run_stage):
    # Nearly greedy: both rollouts of a prompt are the same, so no group has spread.
    same = {"preset": "dapo", "temperature": 1e-3, "group_size": 2}

    def refills(on_spent):
        return {"supply": {"refill": {"max_refills": 1, "on_spent": on_spent}}}

    with pytest.raises(TrainingError, match="max_refills=1"):
        run_stage("error", **same, pieces=refills("error"))
    workdir, rows, outputs = run_stage("stop", **same, pieces=refills("stop"))
    assert len(rows) == 1 and (workdir / outputs.model / "model.safetensors").is_file()


def test_a_step_without_spread_leaves_the_weights_alone(run_stage, base):
    workdir, rows, _ = run_stage(num_steps=2, temperature=1e-3, group_size=2, pieces={"supply": {"fixed": {"drop_equal": True}}})
    assert [row["updates"] for row in rows] == [0.0, 0.0]
    before = load_file(base / "model.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(workdir).items())


def test_lora_uses_the_switched_off_adapter_as_reference(run_stage):
    from factory.config.schema import AdapterConfig, AdapterKind

    adapter = AdapterConfig(kind=AdapterKind.lora, rank=4, alpha=8)
    workdir, rows, outputs = run_stage(num_steps=3, pieces={"kl": {"k3": {"coef": 0.01}}}, adapter=adapter, optim={"lr": 1e-2})
    assert abs(rows[0]["kl"]) < 1e-6 < rows[-1]["kl"]
    assert (workdir / outputs.model / "adapter_model.safetensors").is_file()


def test_micro_batches_do_not_change_the_step(run_stage):
    _, rows, _ = run_stage("whole", num_steps=1)
    _, others, _ = run_stage("split", num_steps=1, optim={"micro_batch_size": 5})
    assert others[0]["loss"] == pytest.approx(rows[0]["loss"], abs=1e-6)
    assert others[0]["grad_norm"] == pytest.approx(rows[0]["grad_norm"], rel=1e-4)
