"""The summed likelihood with its gradient from one pass: against whole logits in float64, and against `token_logprobs` on models."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from factory.config.schema import AdapterConfig, AdapterKind
from factory.stages.models import head_nll
from factory.stages.models.forward import summed_nll, token_logprobs
from factory.stages.models.head_nll import summing
from factory.stages.models.load import load
from factory.stages.objectives import TokenNLL

from .conftest import TEXT_MODELS, VL_MODELS
from .test_forward import rows_of


def head_of(matrix: torch.Tensor) -> nn.Linear:
    head = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=matrix.dtype)
    head.weight = nn.Parameter(matrix.clone())
    return head


def total_of(head: nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with summing(head, targets):
        total = head(hidden)
    assert total.shape == (1,) and total.dtype == torch.float32
    assert head(hidden.detach()).shape == (len(hidden), head.out_features), "outside, the head gives logits again"
    return total


@pytest.mark.parametrize(("rows", "numbers"), [(128, 2**22), (1, 50), (7, 1)])
@pytest.mark.parametrize("factor", [1.0, -0.03])
def test_sum_and_gradients_equal_float64_whatever_the_blocks(monkeypatch, rows, numbers, factor):
    monkeypatch.setattr(head_nll, "LEAST_ROWS", rows)
    monkeypatch.setattr(head_nll, "BLOCK_NUMBERS", {"cpu": numbers})
    generator = torch.Generator().manual_seed(0)
    hidden, matrix = torch.randn(23, 8, generator=generator) * 2, torch.randn(50, 8, generator=generator)
    targets = torch.randint(0, 50, (23,), generator=generator)
    own, head = hidden.clone().requires_grad_(), head_of(matrix)
    total = total_of(head, own, targets)
    (factor * total.sum()).backward()
    slow, slow_matrix = hidden.double().requires_grad_(), matrix.double().requires_grad_()
    wanted = cross_entropy(slow @ slow_matrix.T, targets, reduction="sum")
    (factor * wanted).backward()
    assert_close(total.double().sum(), wanted, rtol=1e-6, atol=1e-6)
    assert_close(own.grad.double(), slow.grad, rtol=1e-5, atol=1e-6)
    assert_close(head.weight.grad.double(), slow_matrix.grad, rtol=1e-5, atol=1e-5)


def test_far_logits_neither_overflow_nor_vanish():
    hidden, head = torch.tensor([[300.0], [-300.0]], requires_grad=True), head_of(torch.tensor([[1.0], [-1.0], [0.5]]))
    total = total_of(head, hidden, torch.tensor([0, 0]))
    total.sum().backward()
    assert total.item() == 600.0
    assert_close(hidden.grad, torch.tensor([[0.0], [-2.0]]))


def test_no_tokens_cost_nothing_and_give_zeros():
    hidden, head = torch.zeros(0, 4, requires_grad=True), head_of(torch.randn(6, 4))
    total = total_of(head, hidden, torch.zeros(0, dtype=torch.long))
    total.sum().backward()
    assert total.item() == 0.0 and hidden.grad.shape == (0, 4) and not head.weight.grad.any()


def test_bfloat16_is_as_near_to_float64_as_whole_logits():
    torch.manual_seed(0)
    hidden, matrix, targets = torch.randn(300, 16), torch.randn(80, 16) * 0.5, torch.randint(0, 80, (300,))

    def gaps(of):
        given, head = hidden.bfloat16().requires_grad_(), head_of(matrix.bfloat16())
        of(given, head).backward()
        exact, weights = hidden.bfloat16().double().requires_grad_(), matrix.bfloat16().double().requires_grad_()
        cross_entropy(exact @ weights.T, targets, reduction="sum").backward()
        return torch.stack([(given.grad.double() - exact.grad).norm(), (head.weight.grad.double() - weights.grad).norm()])

    own = gaps(lambda h, head: total_of(head, h, targets).sum())
    whole = gaps(lambda h, head: cross_entropy(head(h).float(), targets, reduction="sum"))
    assert (own <= 1.05 * whole).all(), (own, whole)


def test_under_autocast_the_products_are_in_its_format_and_gradients_in_the_tensors():
    torch.manual_seed(0)
    hidden, matrix, targets = torch.randn(40, 16), torch.randn(30, 16), torch.randint(0, 30, (40,))
    found = []
    for enabled in (True, False):
        given, head = hidden.clone().requires_grad_(), head_of(matrix)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            total = total_of(head, given, targets)
        total.sum().backward()
        assert given.grad.dtype == head.weight.grad.dtype == torch.float32
        found.append((total.detach(), given.grad, head.weight.grad))
    for half, whole in zip(*found, strict=True):
        assert not torch.equal(half, whole)
        assert_close(half, whole, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("frozen", ["hidden", "matrix", "both", "no_grad"])
def test_what_needs_no_gradient_gets_none(frozen, monkeypatch):
    asked = []
    work = head_nll._sum_and_gradients
    monkeypatch.setattr(head_nll, "_sum_and_gradients", lambda *given: asked.append(given[-2:]) or work(*given))
    hidden, head = torch.randn(5, 4), head_of(torch.randn(6, 4))
    hidden.requires_grad_(frozen not in ("hidden", "both"))
    head.weight.requires_grad_(frozen not in ("matrix", "both"))
    with torch.set_grad_enabled(frozen != "no_grad"):
        total = total_of(head, hidden, torch.arange(5))
    wanted = {"hidden": (False, True), "matrix": (True, False)}.get(frozen, (False, False))
    assert asked == [wanted] and total.requires_grad == any(wanted)
    if any(wanted):
        total.sum().backward()
        assert ((hidden.grad is not None), (head.weight.grad is not None)) == wanted


def test_a_second_backward_is_refused():
    hidden, head = torch.randn(5, 4, requires_grad=True), head_of(torch.randn(6, 4))
    total = total_of(head, hidden, torch.arange(5)).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes backward once"):
        total.backward()


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
def test_a_models_loss_and_gradients_are_those_of_its_log_probabilities(folder, request):
    found = []
    for of in (summed_nll, lambda model, batch: -token_logprobs(model, batch)[0].sum()):
        loaded = load(request.getfixturevalue(folder), precision="fp32")
        batch = loaded.codec.collate(rows_of(loaded))
        total = of(loaded.model, batch)
        total.backward()
        found.append((total.detach(), {name: one.grad for name, one in loaded.model.named_parameters() if one.grad is not None}))
    (own, ours), (other, theirs) = found
    assert_close(own, other, rtol=1e-5, atol=1e-5)
    assert ours.keys() == theirs.keys() and len(ours) > 4
    for name, gradient in theirs.items():
        assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_an_adapter_on_the_head_takes_the_plain_way(text_dir):
    loaded = load(text_dir, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=2, targets="lm_head"))
    batch = loaded.codec.collate([loaded.codec.document("the density is dense")])
    assert_close(summed_nll(loaded.model, batch), -token_logprobs(loaded.model, batch)[0].sum())


def test_the_objective_divides_by_the_tokens_of_the_whole_step(text_dir):
    loaded = load(text_dir, precision="fp32")
    batch = loaded.codec.collate([loaded.codec.document("the density is dense")])
    loss, _ = TokenNLL().loss(loaded.model, batch, {"tokens": 40.0})
    assert_close(loss, -token_logprobs(loaded.model, batch)[0].sum() / 40)
    assert TokenNLL().loss(loaded.model, batch, {"tokens": 0.0})[0].isfinite()
