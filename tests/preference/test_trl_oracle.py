"""TRL 1.16 as the oracle: DPO, IPO and MPO through DPOTrainer, Bradley-Terry through RewardTrainer; loss and every gradient."""

import pytest
import taste
import torch
from datasets import Dataset
from transformers import Qwen3ForSequenceClassification
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from factory.config.schema import OptimConfig
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.models.scorer import ScorerSettings, encode_for_scoring, with_head
from factory.stages.pair_batches import PairBatches
from factory.stages.preference.delta import RunningDelta
from factory.stages.preference.losses import LOSSES
from factory.stages.preference.objective import PreferenceObjective
from factory.stages.reward_model.losses import LOSSES as SCORE_LOSSES
from factory.stages.reward_model.objective import ScoreObjective

torch.set_num_threads(1)
PAIRS = taste.pairs(5)
TRL = {"dpo": (["sigmoid"], [1.0]), "ipo": (["ipo"], [1.0]), "mpo_trl": (["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0])}
# Recorded reference log-probabilities, away from the policy's own so that every term has a slope; nats.
REF = torch.tensor([[-12.0, -9.5], [-7.0, -11.0], [-15.0, -6.0], [-8.5, -8.0], [-10.0, -20.0]])


def one_step(loaded, encode, objective, workdir, micro_batch_size, columns=None):
    """(loss, gradients by name) of one step of ours on PAIRS."""
    optim = OptimConfig(lr=1e-9, clip_norm=0.0, warmup_steps=0, micro_batch_size=micro_batch_size)
    learner = Learner(loaded, optim, 1, workdir, 0)
    got, named = {}, dict(learner.model.named_parameters())
    learner._optimizer.optimizer.register_step_pre_hook(
        lambda *_: got.update({n: p.grad.clone() for n, p in named.items() if p.grad is not None})
    )
    batches = PairBatches(PAIRS, learner, encode(loaded.codec), max_length=512, cache_mb=9)
    rows, _ = batches.step(range(len(PAIRS)), columns)
    return learner.step(rows, objective)["loss"], got, batches.collate(range(len(PAIRS)))


def lesson(codec):
    return lambda sample, text: codec.lesson(sample.messages, text, sample.media)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(got, want):
    """To 1e-5 of the largest entry of each tensor: rounding of sums in another order scales with that."""
    assert got.keys() == want.keys()
    for name in want:
        scale = float(want[name].abs().max())
        assert scale > 0 and float((got[name] - want[name]).abs().max()) <= 1e-5 * scale + 1e-9, name


@pytest.mark.parametrize("micro_batch_size", [0, 4, 1])
@pytest.mark.parametrize("name", sorted(TRL))
def test_preference_loss_and_gradients_equal_trl(base, tmp_path, name, micro_batch_size):
    objective = PreferenceObjective(LOSSES[name], beta=0.1, delta=RunningDelta(is_on=False))

    def columns(part):
        return {"ref_chosen": REF[list(part), 0], "ref_rejected": REF[list(part), 1]}

    loss, got, batch = one_step(load(base, precision="fp32"), lesson, objective, tmp_path, micro_batch_size, columns)
    trl_loss, want = trl_preference(load(base, precision="fp32"), batch, name, tmp_path)
    assert loss == pytest.approx(trl_loss, rel=1e-5)
    assert_same_gradients(got, want)


def trl_preference(loaded, batch, name, workdir):
    kinds, weights = TRL[name]
    args = DPOConfig(
        output_dir=str(workdir / "trl"), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, beta=0.1,
        loss_type=kinds, loss_weights=weights, disable_dropout=False,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": "the sky is", "chosen": "blue", "rejected": "red"}])
    trainer = DPOTrainer(model=loaded.model, args=args, train_dataset=rows, processing_class=loaded.codec.tokenizer)
    trainer.precompute_ref_logps = True
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")} | {
        "completion_mask": batch["loss_mask"], "ref_chosen_logps": REF[:, 0], "ref_rejected_logps": REF[:, 1],
    }  # fmt: skip
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return float(loss.detach()), gradients(loaded.model)


@pytest.mark.parametrize("micro_batch_size", [0, 4])
def test_reward_model_loss_and_gradients_equal_trl(base, tmp_path, micro_batch_size):
    settings = ScorerSettings("bradley_terry", show_reference=False, max_length=512)
    loaded = with_head(load(base, precision="fp32"), settings, seed=3)
    trl_model = Qwen3ForSequenceClassification.from_pretrained(str(base), num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        trl_model.score.weight.copy_(loaded.model.value_head.weight)

    def encode(codec):
        return lambda sample, text: encode_for_scoring(sample, text, codec, show_reference=False)

    objective = ScoreObjective(SCORE_LOSSES["bradley_terry"])
    loss, got, batch = one_step(loaded, encode, objective, tmp_path, micro_batch_size)
    args = RewardConfig(output_dir=str(tmp_path / "trl"), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False)
    rows = Dataset.from_list([{"chosen": "blue", "rejected": "red"}])
    trainer = RewardTrainer(model=trl_model, args=args, train_dataset=rows, processing_class=loaded.codec.tokenizer)
    trainer.model.train()
    trl_loss = trainer.compute_loss(trainer.model, {key: batch[key] for key in ("input_ids", "attention_mask")})
    trl_loss.backward()

    assert loss == pytest.approx(float(trl_loss.detach()), rel=1e-5)
    renamed = {name.replace("backbone.", "").replace("value_head.", "score."): grad for name, grad in got.items()}
    assert_same_gradients(renamed, gradients(trl_model))
