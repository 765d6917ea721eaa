"""The tiled head against whole logits in float64: values, gradients, what is skipped and what is not kept, adapters on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from factory.config.schema import AdapterConfig, AdapterKind
from factory.stages.models import head as head_module
from factory.stages.models.forward import token_logprobs
from factory.stages.models.head import answering, plain_head
from factory.stages.models.load import load


def answers(hidden, targets, matrix, temperature):
    head = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    head.weight = matrix
    with answering(head, targets, temperature=temperature):
        logp, entropy = head(hidden).unbind(-1)
    assert head(hidden.detach()).shape == (len(hidden), len(matrix)), "outside, the head gives logits again"
    return logp, entropy


def reference_in_double(logits, targets, temperature):
    logp = (logits / temperature).log_softmax(-1)
    return logp.gather(-1, targets[:, None]).squeeze(-1), -(logp.exp() * logp).sum(-1)


def gradients(of, hidden, matrix, toward_logp, toward_entropy):
    hidden, matrix = hidden.clone().requires_grad_(), nn.Parameter(matrix.clone())
    logp, entropy = of(hidden, matrix)
    ((logp * toward_logp).sum() + (entropy * toward_entropy).sum()).backward()
    return logp.detach(), entropy.detach(), hidden.grad, matrix.grad


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize(("rows", "numbers"), [(2048, 2**20), (7, 21), (3, 8)])
def test_values_and_gradients_equal_float64_whatever_the_tiles(monkeypatch, rows, numbers, with_entropy, temperature):
    monkeypatch.setattr(head_module, "TILE_ROWS", rows)
    monkeypatch.setattr(head_module, "TILE_NUMBERS", {"cpu": numbers})
    generator = torch.Generator().manual_seed(0)
    hidden, matrix = torch.randn(23, 8, generator=generator) * 2, torch.randn(50, 8, generator=generator)
    targets = torch.randint(0, 50, (23,), generator=generator)
    toward = torch.randn(23, generator=generator)
    toward[::3] = 0.0
    spread = torch.randn(23, generator=generator) * float(with_entropy)
    found = gradients(lambda h, m: answers(h, targets, m, temperature), hidden, matrix, toward, spread)
    wanted = gradients(
        lambda h, m: reference_in_double(h @ m.T, targets, temperature),
        hidden.double(),
        matrix.double(),
        toward.double(),
        spread.double(),
    )
    for own, slow in zip(found, wanted, strict=True):
        assert_close(own.double(), slow, atol=2e-4, rtol=2e-4)


def test_far_logits_neither_overflow_nor_vanish():
    hidden, matrix = torch.tensor([[300.0], [-300.0]]), nn.Parameter(torch.tensor([[1.0], [-1.0], [0.5]]))
    logp, entropy = answers(hidden, torch.tensor([0, 0]), matrix, 1.0)
    assert_close(logp, torch.tensor([0.0, -600.0]))
    assert_close(entropy, torch.zeros(2))


def test_tokens_without_gradient_make_no_tile_in_the_backward(monkeypatch):
    made = []
    tiles = head_module._tiles
    monkeypatch.setattr(head_module, "_tiles", lambda hidden, *rest: made.append(len(hidden)) or tiles(hidden, *rest))
    hidden, matrix = torch.randn(10, 4, requires_grad=True), nn.Parameter(torch.randn(6, 4))
    logp, _ = answers(hidden, torch.arange(10) % 6, matrix, 1.0)
    (logp * torch.tensor([0.0] * 8 + [1.0, -1.0])).sum().backward()
    assert made == [10, 2]
    assert hidden.grad[:8].abs().sum() == 0 and hidden.grad[8:].abs().min() > 0


def test_no_whole_logits_are_kept_for_the_backward():
    saved = []
    hidden, matrix = torch.randn(64, 4, requires_grad=True), nn.Parameter(torch.randn(500, 4))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        answers(hidden, torch.arange(64), matrix, 1.0)
    assert max(saved) <= hidden.numel()


def test_an_adapter_on_the_head_takes_the_plain_way(text_dir):
    loaded = load(text_dir, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=2, targets="q_proj"))
    assert isinstance(plain_head(loaded.model), nn.Linear)
    adapted = load(text_dir, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=2, targets="lm_head"))
    assert plain_head(adapted.model) is None
    batch = adapted.codec.collate([adapted.codec.document("the density is dense")])
    assert_close(token_logprobs(adapted.model, batch)[0], token_logprobs(loaded.model, batch)[0], atol=1e-5, rtol=1e-5)
