"""The tower's attention, neighbours of one size together: beside transformers' own modules, which stay the reference."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from factory.stages.models.load import load
from factory.stages.models.segments import attend_by_segment
from factory.stages.models.tower_attention import KINDS, attend_by_size, runs_of_one_size

from .conftest import TEXT_MODELS, VL_MODELS

SIZES = {
    "one size": [16] * 6,
    "several": [16, 16, 64, 64, 64, 4, 16],
    "all different": [4, 16, 64],
    "one image": [36],
}


def attention_of(loaded):
    return next(module for module in loaded.model.model.visual.modules() if type(module).__name__ in KINDS)


def given(module, sizes, seed=0):
    """(hidden states, borders, cos and sin) of images of so many patches."""
    torch.manual_seed(seed)
    num, width = sum(sizes), module.head_dim
    angles = torch.randn(num, width // 2)
    angles = torch.cat([angles, angles], dim=-1)
    borders = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()], dtype=torch.int32)
    return torch.randn(num, module.dim), borders, (angles.cos(), angles.sin())


def test_runs_by_hand():
    assert runs_of_one_size([16, 16, 64, 64, 64, 4, 16]) == [(2, 16), (3, 64), (1, 4), (1, 16)]
    assert runs_of_one_size([]) == []


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("folder", VL_MODELS)
def test_outputs_and_gradients_are_those_of_the_reference(folder, request, sizes):
    own = copy.deepcopy(attention_of(load(request.getfixturevalue(folder), precision="fp32")))
    reference = copy.deepcopy(own)
    assert "forward" in own.__dict__
    del reference.__dict__["forward"]
    results = []
    for module in (own, reference):
        hidden, borders, positions = given(module, sizes)
        hidden.requires_grad_()
        out = module(hidden, borders, position_embeddings=positions)
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out))
        results.append((out, hidden.grad, *(parameter.grad for parameter in module.parameters())))
    for one, other in zip(*results, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_every_image_is_attended_as_a_whole_and_alone(vl_dir):
    module = attention_of(load(vl_dir, precision="fp32"))
    hidden, borders, (cos, sin) = given(module, [16, 16, 16])
    with torch.no_grad():
        found = module(hidden, borders, position_embeddings=(cos, sin))
        query, key, value = module.qkv(hidden).double().view(48, 3, module.num_heads, module.head_dim).unbind(1)
        turned = []
        for tensor in (query, key):
            first, second = tensor.chunk(2, dim=-1)
            turned.append(tensor * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None])
        for start in (0, 16, 32):
            part = slice(start, start + 16)
            scores = torch.einsum("qhd,khd->hqk", turned[0][part], turned[1][part]) * module.head_dim**-0.5
            mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[part]).reshape(16, -1)
            wanted = functional.linear(mixed, module.proj.weight.double(), module.proj.bias.double())
            assert_close(found[part].double(), wanted, rtol=1e-5, atol=1e-6)
        hidden[20:] += 1.0
        assert torch.equal(module(hidden, borders, position_embeddings=(cos, sin))[:16], found[:16])


@pytest.mark.parametrize("implementation", ["sdpa", "segments", "eager"])
def test_neighbours_of_one_size_take_one_call_of_the_kernel(vl_dir, monkeypatch, implementation):
    loaded, calls = load(vl_dir, precision="fp32"), []
    if implementation == "segments":
        attend_by_segment(loaded.model)
    elif implementation == "eager":
        loaded.model.set_attn_implementation("eager")
    real = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a, **b: calls.append(a[0].shape[0]) or real(*a, **b))
    module = attention_of(loaded)
    hidden, borders, positions = given(module, [16, 16, 16, 4])
    with torch.no_grad():
        found = module(hidden, borders, position_embeddings=positions)
        assert_close(found, type(module).forward(module, hidden, borders, position_embeddings=positions), rtol=1e-5, atol=1e-6)
    assert calls[:2] == ([] if implementation == "eager" else [3, 1])


def test_models_without_such_a_tower_are_left_alone(request):
    for folder in TEXT_MODELS:
        assert attend_by_size(load(request.getfixturevalue(folder), precision="fp32").model) == 0
