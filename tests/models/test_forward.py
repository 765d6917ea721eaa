"""`token_logprobs` against the plain definition over full logits, its gradient, and padding that changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from factory.contracts import IMAGE
from factory.stages.models.codec import Encoded
from factory.stages.models.forward import model_inputs, token_logprobs
from factory.stages.models.load import load

from .conftest import TEXT_MODELS, VL_MODELS, png


def rows_of(loaded) -> list[Encoded]:
    codec = loaded.codec
    if loaded.modality == "text":
        return [
            codec.document("the density is dense, not moderate"),
            codec.document("a gland is DNA"),
            Encoded([9, 8, 7], [0, 0, 0]),
        ]
    return [
        codec.document(f"{IMAGE} the density is dense", (png(1),)),
        codec.document("the gland is fused"),
        codec.document(IMAGE, (png(2, 80, 40),)),
    ]


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
def test_logprobs_and_entropy_equal_the_definition(folder, request):
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    batch = loaded.codec.collate(rows_of(loaded))
    logp, entropy = token_logprobs(loaded.model, batch, temperature=0.7, with_entropy=True)
    full = (loaded.model(**model_inputs(batch)).logits / 0.7).log_softmax(dim=-1)
    wanted, spread = torch.zeros_like(logp), torch.zeros_like(logp)
    for b in range(len(logp)):
        for t in range(1, logp.shape[1]):
            if batch["loss_mask"][b, t]:
                wanted[b, t] = full[b, t - 1, batch["input_ids"][b, t]]
                spread[b, t] = -(full[b, t - 1].exp() * full[b, t - 1]).sum()
    assert batch["loss_mask"].sum() > 8
    assert_close(logp, wanted, atol=1e-5, rtol=1e-5)
    assert_close(entropy, spread, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
@pytest.mark.parametrize("left", [False, True])
def test_padding_changes_nothing(folder, left, request):
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    rows = rows_of(loaded)
    together = token_logprobs(loaded.model, loaded.codec.collate(rows, left=left))[0]
    for row, got in zip(rows, together, strict=True):
        alone = token_logprobs(loaded.model, loaded.codec.collate([row]))[0][0]
        part = got[len(got) - len(row.ids) :] if left else got[: len(row.ids)]
        assert_close(part, alone, atol=1e-5, rtol=1e-5)


def test_the_gradient_is_that_of_the_language_model_loss(text_dir):
    loaded = load(text_dir, precision="fp32")
    batch = loaded.codec.collate([loaded.codec.document("the density is dense"), loaded.codec.document("a gland")])
    logp, _ = token_logprobs(loaded.model, batch)
    (-logp.sum() / batch["loss_mask"].sum()).backward()
    got = {name: weight.grad.clone() for name, weight in loaded.model.named_parameters()}
    loaded.model.zero_grad()
    labels = batch["input_ids"].masked_fill(batch["loss_mask"] == 0, -100)
    loaded.model(**model_inputs(batch), labels=labels).loss.backward()
    for name, weight in loaded.model.named_parameters():
        assert_close(got[name], weight.grad, atol=1e-6, rtol=1e-4)


def test_a_batch_with_nothing_to_learn_gives_zeros_and_a_gradient_of_zero(text_dir):
    loaded = load(text_dir, precision="fp32")
    logp, _ = token_logprobs(loaded.model, loaded.codec.collate([Encoded([5, 6], [0, 0])]))
    logp.sum().backward()
    assert logp.abs().sum() == 0
    assert all(w.grad is None or w.grad.abs().sum() == 0 for w in loaded.model.parameters())
