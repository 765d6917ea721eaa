"""The normaliser rule: how a batch is split into micro-batches changes neither loss nor gradient."""

import dataclasses

import pytest
import torch

from factory.config.schema import OptimConfig
from factory.errors import TrainingError
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.objectives import Filler, TokenNLL

torch.set_num_threads(1)


def make_learner(base, tmp_path, **optim):
    loaded = load(base, precision="fp32")
    settings = OptimConfig(**{"lr": 1e-3, "warmup_steps": 0, "clip_norm": 0.0, **optim})
    return Learner(loaded, settings, 10, tmp_path, seed=0)


def step_gradients(base, tmp_path, world, splits, modality="text", **optim):
    """Loss, norm and every gradient of one step on ten rows of unequal length."""
    learner = make_learner(base, tmp_path, **optim)
    pack = world.SmallPack(modality)
    codec = learner.loaded.codec
    rows = [codec.document(d.text, d.media) for d in pack.corpus("train", 0, world.DataRequest(limit=10))]
    rows.sort(key=lambda row: row.pixels is None)
    kept = {}
    named = dict(learner.model.named_parameters())
    learner._optimizer.optimizer.register_step_pre_hook(
        lambda *_: kept.update({name: p.grad.clone() for name, p in named.items() if p.grad is not None})
    )
    batches, start = [], 0
    for size in splits:
        batches.append(codec.collate(rows[start : start + size]))
        start += size
    assert start == 10
    return learner.step(batches, TokenNLL()), kept


@pytest.mark.parametrize("splits", [(5, 5), (3, 3, 2, 2), (1, 6, 3), (1,) * 10], ids=str)
def test_micro_batches_change_nothing(text_base, tmp_path, world, splits):
    whole, want = step_gradients(text_base, tmp_path, world, (10,))
    figures, got = step_gradients(text_base, tmp_path, world, splits)
    assert figures["tokens"] == whole["tokens"]
    assert figures["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert figures["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


def test_micro_batches_change_nothing_with_images(vl_base, tmp_path, world):
    whole, want = step_gradients(vl_base, tmp_path, world, (10,), "vl")
    figures, got = step_gradients(vl_base, tmp_path, world, (2, 5, 3), "vl")
    assert figures["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert any("visual" in name and want[name].abs().max() > 0 for name in want)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_changes_nothing(text_base, tmp_path, world):
    whole, want = step_gradients(text_base, tmp_path, world, (10,))
    figures, got = step_gradients(text_base, tmp_path, world, (10,), gradient_checkpointing=True)
    assert figures["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6)


def test_loss_is_the_mean_over_tokens_by_hand(text_base, tmp_path, world):
    learner = make_learner(text_base, tmp_path)
    rows = [learner.loaded.codec.document(world.sentence(i)) for i in range(4)]
    total, num = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row.ids])
            logp = learner.model(input_ids=ids).logits.log_softmax(-1)
            total -= float(logp[0, :-1].gather(-1, ids[0, 1:, None]).sum())
            num += len(row.ids) - 1
    figures = learner.step([learner.loaded.codec.collate(rows)], TokenNLL())
    assert figures["tokens"] == num
    assert figures["loss"] == pytest.approx(total / num, rel=1e-5)


def test_a_filler_counts_for_nothing(text_base, tmp_path, world):
    learner, other = make_learner(text_base, tmp_path), make_learner(text_base, tmp_path)
    batch, more = (learner.loaded.codec.collate([learner.loaded.codec.document(world.sentence(i))]) for i in (1, 2))
    assert learner.step([batch, Filler(more)], TokenNLL()) == other.step([batch], TokenNLL())
    for mine, theirs in zip(learner.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


class Broken(TokenNLL):
    """The loss of the second call, or its gradient, is not finite."""

    def __init__(self, where):
        super().__init__()
        self.where, self.calls = where, 0

    def loss(self, model, batch, totals):
        loss, metrics = super().loss(model, batch, totals)
        self.calls += 1
        if self.calls < 2:
            return loss, metrics
        if self.where == "loss":
            return loss * float("nan"), metrics
        weight = next(model.parameters())
        # The value of this term is 0, its gradient is infinite: d sqrt(x)/dx at 0
        return loss + torch.sqrt((weight * 0).sum()) * 1.0, metrics


@pytest.mark.parametrize(("where", "what"), [("loss", "the loss is nan"), ("gradient", "the gradient norm is")])
def test_bad_steps_are_skipped_then_refused_and_leave_the_weights(text_base, tmp_path, world, where, what):
    learner = make_learner(text_base, tmp_path, bad_steps=2, max_rollbacks=0)
    codec = learner.loaded.codec
    batches = [codec.collate([codec.document(world.sentence(i))]) for i in (1, 2)]
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    figures = learner.step(batches, Broken(where))
    assert figures["bad_steps"] == 1 and not {"nan", "inf"} & {str(value) for value in figures.values()}
    with pytest.raises(TrainingError, match=rf"step 2 of 10: {what}.*2 bad steps in a row; .*Lower optim\.lr"):
        learner.step(batches, Broken(where))
    for name, parameter in learner.model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_clipping_scales_the_gradient_to_the_limit(text_base, tmp_path, world):
    whole, want = step_gradients(text_base, tmp_path, world, (10,))
    limit = whole["grad_norm"] / 3
    figures, got = step_gradients(text_base, tmp_path, world, (10,), clip_norm=limit)
    assert figures["grad_norm"] == pytest.approx(whole["grad_norm"])  # reported before clipping
    assert float(torch.nn.utils.get_total_norm(got.values())) == pytest.approx(limit, rel=1e-4)
    name = max(want, key=lambda n: want[n].abs().max())
    torch.testing.assert_close(got[name], want[name] / 3, rtol=1e-3, atol=1e-7)


def test_frozen_vision_gets_no_update_and_the_scale_reaches_adam(vl_base, tmp_path, world):
    learner = make_learner(vl_base, tmp_path, vision_lr_scale=0.0)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    codec = learner.loaded.codec
    document = next(iter(world.SmallPack("vl").corpus("train", 0, world.DataRequest(limit=1))))
    learner.step([codec.collate([codec.document(document.text, document.media)])], TokenNLL())
    moved = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and not any("visual" in name for name in moved)


def test_bf16_keeps_fp32_master_weights_and_stays_near_fp32(text_base, tmp_path, world):
    optim = OptimConfig(lr=1e-3, warmup_steps=0)
    losses = {}
    for precision in ("fp32", "bf16"):
        learner = Learner(load(text_base, precision=precision), dataclasses.replace(optim), 3, tmp_path, 0, precision)
        codec = learner.loaded.codec
        batch = codec.collate([codec.document(world.sentence(i)) for i in range(4)])
        losses[precision] = [learner.step([batch], TokenNLL())["loss"] for _ in range(3)]
        assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2)
    assert losses["bf16"][-1] < losses["bf16"][0]
