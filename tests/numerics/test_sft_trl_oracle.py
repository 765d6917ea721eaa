"""SFT against TRL's SFTTrainer on the same lessons: tokens, loss mask, loss, and every parameter's gradient."""

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from factory.config.schema import OptimConfig
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.objectives import TokenNLL
from factory.stages.sft.train import encode

torch.set_num_threads(1)
NUM_LESSONS = 6


def lessons(world):
    return list(world.SmallPack().lessons("train", 0, world.DataRequest(limit=NUM_LESSONS)))


@pytest.fixture(scope="module")
def trl_batch(world, text_base, tmp_path_factory):
    """TRL's batch of the same conversations: its own templating, tokens and labels."""
    loaded = load(text_base, precision="fp32")
    conversations = Dataset.from_list(
        [
            {
                "prompt": [{"role": m.role, "content": m.content} for m in lesson.sample.messages],
                "completion": [{"role": "assistant", "content": lesson.response}],
            }
            for lesson in lessons(world)
        ]
    )
    args = TrlConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), per_device_train_batch_size=NUM_LESSONS, use_cpu=True, bf16=False,
        report_to=[], gradient_checkpointing=False, loss_type="nll", completion_only_loss=True, max_length=512,
    )  # fmt: skip
    trainer = SFTTrainer(model=loaded.model, args=args, train_dataset=conversations, processing_class=loaded.codec.tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(NUM_LESSONS)])
    return batch


def our_rows(world, codec):
    return [encode(lesson, codec) for lesson in lessons(world)]


def test_tokens_and_learned_tokens_are_those_of_trl(world, text_base, trl_batch):
    codec = load(text_base, precision="fp32").codec
    for index, row in enumerate(our_rows(world, codec)):
        real = trl_batch["attention_mask"][index].bool()
        ids, labels = trl_batch["input_ids"][index][real].tolist(), trl_batch["labels"][index][real].tolist()
        # TRL keeps the newline that the template writes after the end of the turn; a model never generates it, so we stop before.
        assert ids[: len(row.ids)] == row.ids and len(ids) - len(row.ids) <= 1
        assert [int(label != -100) for label in labels[: len(row.ids)]] == row.loss_mask


def same_tokens(batch, rows):
    """TRL's batch with the labels that our rows do not have (the newline after the turn) switched off."""
    labels = batch["labels"].clone()
    for index, row in enumerate(rows):
        labels[index, len(row.ids) :] = -100
    return {**{key: batch[key] for key in ("input_ids", "attention_mask")}, "labels": labels}


@pytest.mark.parametrize("micro_batch_size", [6, 4, 1])
def test_loss_and_every_gradient_equal_trl(world, text_base, tmp_path, trl_batch, micro_batch_size):
    reference = load(text_base, precision="fp32")
    rows = our_rows(world, reference.codec)
    want_loss, want = trl_step(reference, same_tokens(trl_batch, rows), tmp_path / "trl")

    learner = Learner(load(text_base, precision="fp32"), OptimConfig(clip_norm=0.0, warmup_steps=0), 1, tmp_path, 0)
    got = {}
    named = dict(learner.model.named_parameters())
    learner._optimizer.optimizer.register_step_pre_hook(lambda *_: got.update({n: p.grad.clone() for n, p in named.items()}))
    parts = [rows[start : start + micro_batch_size] for start in range(0, len(rows), micro_batch_size)]
    figures = learner.step([learner.loaded.codec.collate(part) for part in parts], TokenNLL())

    assert figures["loss"] == pytest.approx(want_loss, rel=1e-5)
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def trl_step(loaded, inputs, out_dir):
    """TRL's loss and gradients on a ready batch."""
    args = TrlConfig(
        output_dir=str(out_dir), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, loss_type="nll",
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    tokens = Dataset.from_list([{"input_ids": [1, 2], "labels": [1, 2]}])
    trainer = SFTTrainer(model=loaded.model, args=args, train_dataset=tokens, processing_class=loaded.codec.tokenizer)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in loaded.model.named_parameters()}
