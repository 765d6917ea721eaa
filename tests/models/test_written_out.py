"""Norms with a written-out gradient and patches as a product: beside transformers' own modules, which stay the reference."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from factory.stages.models.load import load
from factory.stages.models.patch_projection import project_by_product
from factory.stages.models.rms_norm import hasten_norms

from .conftest import TEXT_MODELS, VL_MODELS


def as_shipped(model: nn.Module) -> nn.Module:
    """A copy without our forwards."""
    model = copy.deepcopy(model)
    for module in model.modules():
        module.__dict__.pop("forward", None)
    return model


def norm(kind: type[nn.Module] = Qwen3RMSNorm, width: int = 24) -> nn.Module:
    torch.manual_seed(0)
    made = kind(width)
    with torch.no_grad():
        made.weight.uniform_(0.5, 1.5)
    return made


@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 7, 24), (2, 7, 3, 24)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_forward_is_the_reference_to_the_bit_and_so_are_gradients_but_for_rounding(shape, scale):
    own, reference = norm(), norm()
    assert hasten_norms(own) == 1
    x = (torch.randn(shape) * scale).requires_grad_()
    other, pull = x.detach().clone().requires_grad_(), torch.randn(shape)
    y, wanted = own(x), reference(other)
    assert torch.equal(y, wanted)
    y.backward(pull)
    wanted.backward(pull)
    assert_close(x.grad, other.grad, rtol=2e-5, atol=2e-6 / scale)
    assert_close(own.weight.grad, reference.weight.grad, rtol=2e-5, atol=2e-6)
    with torch.no_grad():
        assert torch.equal(own(x), reference(x))


def test_gradients_agree_with_differences_in_float64():
    from factory.stages.models.rms_norm import _Norm

    x, weight = torch.randn(3, 6, dtype=torch.float64, requires_grad=True), torch.rand(6, dtype=torch.float64, requires_grad=True)

    def loss(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (_Norm.apply(a, w, 1e-6) ** 2 * torch.arange(1.0, 7.0)).sum()

    loss(x, weight).backward()
    for tensor, gradient in ((x, x.grad), (weight, weight.grad)):
        for place in range(tensor.numel()):
            step = torch.zeros_like(tensor).flatten()
            step[place] = 1e-2  # statistics are float32, so a smaller step drowns in their rounding
            ends = [(x + s * step.view_as(x), weight) if tensor is x else (x, weight + s * step) for s in (1, -1)]
            slope = (loss(*ends[0]) - loss(*ends[1])).item() / 2e-2
            assert abs(slope - gradient.flatten()[place].item()) < 2e-3 * max(1.0, abs(slope))


def test_bfloat16_is_as_near_to_float32_as_the_reference():
    own, reference = norm().bfloat16(), norm().bfloat16()
    hasten_norms(own)
    x = torch.randn(64, 24, dtype=torch.bfloat16)
    pull = torch.randn(64, 24, dtype=torch.bfloat16)
    found = []
    for module, kind in ((own, torch.bfloat16), (reference, torch.bfloat16), (norm().bfloat16().float(), torch.float32)):
        given = x.detach().clone().to(kind).requires_grad_()
        module(given).backward(pull.to(kind))
        found.append((given.grad.float(), module.weight.grad.float()))
    for place in range(2):
        exact = found[2][place]
        assert (found[0][place] - exact).norm() <= 1.05 * (found[1][place] - exact).norm()


def test_a_frozen_weight_gets_no_gradient_and_autocast_changes_nothing():
    own = norm()
    hasten_norms(own)
    own.weight.requires_grad_(False)
    x, pull = torch.randn(4, 24, requires_grad=True), torch.randn(4, 24)
    own(x).backward(pull)
    plain = x.grad.clone()
    x.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own(x).backward(pull)
    assert own.weight.grad is None and torch.equal(x.grad, plain)


def test_other_norms_are_left_alone():
    class OneMore(LlamaRMSNorm):
        def forward(self, hidden_states):
            return (1 + self.weight) * super().forward(hidden_states)

    class PlusRMSNorm(OneMore):
        pass

    model = nn.ModuleList([GemmaRMSNorm(8), PlusRMSNorm(8), nn.RMSNorm(8), nn.LayerNorm(8), LlamaRMSNorm(8)])
    assert hasten_norms(model) == 1 and "forward" in model[4].__dict__


@pytest.mark.parametrize("folder", [*TEXT_MODELS, *VL_MODELS])
def test_a_loaded_model_has_the_reference_outputs_and_gradients(folder, request):
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    model, reference = loaded.model, as_shipped(loaded.model)
    assert any("forward" in module.__dict__ for module in model.modules() if type(module).__name__.endswith("RMSNorm"))
    ids = torch.randint(5, 40, (2, 12))
    for one in (model, reference):
        one(input_ids=ids, labels=ids).loss.backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        if wanted[name].grad is not None:
            assert_close(parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("folder", VL_MODELS)
def test_patches_are_projected_as_the_convolution_does(folder, request):
    tower = load(request.getfixturevalue(folder), precision="fp32").model.model.visual
    embed, reference = tower.patch_embed, as_shipped(tower.patch_embed)
    assert "forward" in embed.__dict__
    patches = torch.randn(9, embed.proj.weight[0].numel(), requires_grad=True)
    other = patches.detach().clone().requires_grad_()
    found, wanted = embed(patches), reference(other)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(found)
    found.backward(pull)
    wanted.backward(pull)
    assert_close(patches.grad, other.grad, rtol=1e-5, atol=1e-5)
    assert_close(embed.proj.weight.grad, reference.proj.weight.grad, rtol=1e-5, atol=1e-5)


def test_a_convolution_that_overlaps_stays_one():
    overlapping = SimpleNamespace(proj=nn.Conv3d(3, 4, kernel_size=(1, 4, 4), stride=(1, 2, 2)))
    assert not project_by_product(SimpleNamespace(patch_embed=overlapping))
    assert not project_by_product(SimpleNamespace())
