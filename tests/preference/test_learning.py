"""Both stages end to end on the tiny random model: they learn the taste, resume bit for bit, and leave what they promise."""

import json

import pytest
import taste
import torch
from safetensors.torch import load_file

from factory.errors import DataError
from factory.stages.models.load import load
from factory.stages.models.scorer import load_scorer

torch.set_num_threads(1)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "ipo_sum", "bco", "mpo", "mpo_trl", "rpo"])
def test_every_loss_learns_the_preference(run_stage, loss):
    workdir, rows, outputs = run_stage("preference", loss=loss, epochs=6, batch_size=18)
    assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-3), "the policy begins at the reference"
    # The six steps' full batch is the same 18 pairs.
    assert rows[-1]["accuracy"] == 1.0 and rows[-1]["margin"] > 0.05 and rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["margin"] == pytest.approx(rows[-1]["chosen_reward"] - rows[-1]["rejected_reward"], abs=1e-5)
    assert outputs.model == "model" and load(workdir / "model", precision="fp32").modality == "text"
    assert sorted(path.name for path in workdir.iterdir()) == ["model"]


def test_the_first_loss_is_the_one_of_a_zero_margin(run_stage):
    # every margin is 0: DPO gives ln 2, the BCO pair 2 ln 2, IPO (1/(2 * 0.1))^2 = 25
    for loss, want in (("dpo", 0.693147), ("bco", 1.386294), ("ipo", 25.0)):
        _, rows, _ = run_stage("preference", folder=loss, loss=loss, pairs=4, batch_size=4)
        assert rows[0]["loss"] == pytest.approx(want, abs=2e-3 if loss == "ipo" else 1e-4)


def test_the_running_delta_moves_and_that_of_trl_does_not(run_stage):
    _, rows, _ = run_stage("preference", folder="mpo", loss="mpo", epochs=3, batch_size=18)
    _, plain, _ = run_stage("preference", folder="trl", loss="mpo_trl", epochs=3, batch_size=18)
    first = (rows[0]["chosen_reward"] + rows[0]["rejected_reward"]) / 2
    second = (rows[1]["chosen_reward"] + rows[1]["rejected_reward"]) / 2
    assert rows[0]["delta"] == 0.0 and rows[1]["delta"] == pytest.approx(first, abs=1e-9)
    assert rows[2]["delta"] == pytest.approx((first + second) / 2, abs=1e-7) and abs(rows[2]["delta"]) > 1e-3
    assert [row["delta"] for row in plain] == [0.0, 0.0, 0.0]


def test_adapter_run_leaves_the_reference_in_the_base(run_stage, base):
    adapter = {"kind": "lora", "rank": 4, "alpha": 8}
    workdir, rows, _ = run_stage("preference", loss="mpo", epochs=4, batch_size=18, adapter=adapter, optim={"lr": 1e-2})
    assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-3) and rows[-1]["accuracy"] == 1.0
    assert (workdir / "model" / "adapter_chain.json").is_file()


@pytest.mark.parametrize("adapter", [{}, {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.1}], ids=["full", "lora"])
@pytest.mark.parametrize(("kind", "loss"), [("preference", {"loss": "mpo"}), ("reward_model", {"objective": "cost"})])
def test_resumed_run_equals_uninterrupted_run(run_stage, kind, loss, adapter):
    settings = {**loss, "epochs": 3, "batch_size": 8, "adapter": adapter, "optim": {"checkpoint_every": 2, "micro_batch_size": 6}}
    whole, rows, _ = run_stage(kind, "whole", **settings)
    cut, before, none = run_stage(kind, "cut", stop_after=4, **settings)
    assert none is None and (cut / "checkpoints").is_dir()
    _, after, _ = run_stage(kind, "cut", **settings)
    # Killed in step 4, after the checkpoint of step 2: steps 3 and on are run again.
    assert after[0]["step"] == 3
    timeless = [{k: v for k, v in row.items() if k not in ("tokens_per_s", "time_s")} for row in rows]
    assert timeless == [{k: v for k, v in row.items() if k not in ("tokens_per_s", "time_s")} for row in before[:2] + after]
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert files and files == sorted(path.relative_to(cut) for path in cut.rglob("*.safetensors"))
    for file in files:
        one, two = load_file(whole / file), load_file(cut / file)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_resume_takes_the_reference_from_disk_and_computes_a_damaged_one_again(run_stage, monkeypatch):
    from factory.stages.pair_batches import PairBatches

    settings = {"loss": "dpo", "epochs": 2, "batch_size": 9, "optim": {"checkpoint_every": 1}}
    whole, _, _ = run_stage("preference", "whole", **settings)
    cut, _, _ = run_stage("preference", "cut", stop_after=3, **settings)
    (cut / "reference.safetensors").write_bytes(b"torn")
    run_stage("preference", "cut", **settings)
    want, got = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(want[name], got[name]) for name in want)

    run_stage("preference", "again", stop_after=3, **settings)
    monkeypatch.setattr(PairBatches, "measure", lambda *_: pytest.fail("the reference was on disk"))
    run_stage("preference", "again", **settings)


def test_pairs_with_and_without_images_train_together(run_stage, vl_base):
    pack = taste.Pack(with_images=True, num=7)
    settings = {"epochs": 3, "batch_size": 7, "optim": {"micro_batch_size": 4}}
    _, rows, _ = run_stage("preference", "pref", model=vl_base, pack=pack, loss="mpo", **settings)
    assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-3) and rows[-1]["accuracy"] == 1.0
    workdir, rows, _ = run_stage("reward_model", "reward", model=vl_base, pack=pack, **settings)
    assert rows[-1]["loss"] < rows[0]["loss"]
    pair = taste.pairs(2, with_images=True)[1]
    assert len(load_scorer(workdir / "scorer").score([(pair.sample, pair.chosen)])) == 1


@pytest.mark.parametrize("adapter", [{}, {"kind": "lora", "rank": 4, "alpha": 8}], ids=["full", "lora"])
def test_reward_model_learns_and_its_folder_scores_as_it_was_trained(run_stage, adapter):
    lr = 1e-2 if adapter else 1e-3
    workdir, rows, outputs = run_stage("reward_model", epochs=8, batch_size=9, holdout=0.3, adapter=adapter, optim={"lr": lr})
    assert outputs.model is None and outputs.files == ("scorer", "held_out.json", "labelled.jsonl", "metrics.jsonl")
    assert rows[-1]["accuracy"] == 1.0 and rows[-1]["loss"] < 0.3 < rows[0]["loss"]
    figures = json.loads((workdir / "held_out.json").read_text())
    assert figures == outputs.metrics["held_out"]
    # 0.3 of 6 prompts are held out: 2 prompts of 3 pairs
    assert figures["pairs"] == 6 and outputs.metrics["num_pairs"] == 12
    assert figures["accuracy"] == 1.0 and figures["accuracy_low"] == pytest.approx(0.6097, abs=1e-4)

    pairs = taste.pairs()
    scorer = load_scorer(workdir / "scorer", batch_size=5)
    chosen = scorer.score([(pair.sample, pair.chosen) for pair in pairs])
    rejected = scorer.score([(pair.sample, pair.rejected) for pair in pairs])
    assert all(c > r for c, r in zip(chosen, rejected, strict=True))
    alone = [scorer.score([(pair.sample, pair.chosen)])[0] for pair in pairs]
    assert chosen == pytest.approx(alone, abs=1e-5), "padding and neighbours change no score"
    names = {path.name for path in (workdir / "scorer").iterdir()}
    assert {"scorer.json", "value_head.safetensors"} <= names and not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]


def test_cost_model_puts_zero_between_safe_and_unsafe(run_stage):
    workdir, rows, outputs = run_stage("reward_model", objective="cost", epochs=14, batch_size=9, holdout=0.2)
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["accuracy"] == 1.0
    assert "label_accuracy_low" in outputs.metrics["held_out"]
    scorer = load_scorer(workdir / "scorer")
    assert scorer.settings.objective == "cost"
    unsafe = [pair for pair in taste.pairs() if not pair.meta["rejected_safe"]]
    costs = scorer.score([(pair.sample, pair.chosen) for pair in unsafe])
    assert all(cost < 0 for cost in costs)


def test_cost_model_refuses_pairs_without_labels(run_stage, tmp_path):
    path = tmp_path / "plain.jsonl"
    path.write_text(json.dumps({"prompt": "the sky is", "chosen": "blue", "rejected": "red"}) + "\n")
    with pytest.raises(DataError, match=r"a cost model needs meta\.chosen_safe and meta\.rejected_safe"):
        run_stage("reward_model", objective="cost", holdout=0.0, pairs_from=str(path))
