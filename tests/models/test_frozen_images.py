"""A frozen vision tower computes each image once, whatever it is batched with; a learning or divided one as always."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from factory.contracts import IMAGE
from factory.stages.models.forward import token_logprobs
from factory.stages.models.frozen_images import FrozenImages
from factory.stages.models.load import load

from .conftest import VL_MODELS, png

ONE, TWO, THREE = png(1, 150, 60), png(2), png(3, 90, 90)


@pytest.fixture(params=VL_MODELS)
def loaded(request):
    found = load(request.getfixturevalue(request.param), precision="fp32")
    found.model.model.visual.requires_grad_(False)
    return found


def memory(loaded) -> FrozenImages:
    return loaded.model.model.visual.forward.__self__


def count_computed(loaded) -> list[int]:
    """Patches of every call of the tower's first part."""
    seen: list[int] = []
    loaded.model.model.visual.patch_embed.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def batch_of(loaded, *rows):
    return loaded.codec.collate([loaded.codec.document(IMAGE * len(media) + " gland", media) for media in rows])


def learn(loaded, batch):
    loaded.model.zero_grad()
    logp = token_logprobs(loaded.model, batch)[0]
    logp.sum().backward()
    return logp.detach(), {name: one.grad.clone() for name, one in loaded.model.named_parameters() if one.grad is not None}


def test_each_image_is_computed_once_and_outputs_and_gradients_are_as_without(loaded):
    batch, seen = batch_of(loaded, (ONE, TWO), (TWO,), (THREE, ONE)), count_computed(loaded)
    kept = [learn(loaded, batch), learn(loaded, batch_of(loaded, (THREE,), (ONE,))), learn(loaded, batch)]
    sizes = [len(loaded.codec.document(IMAGE, (media,)).pixels) for media in (ONE, TWO, THREE)]
    assert seen == sizes, "each by itself, and once for three batches"
    assert torch.equal(kept[0][0], kept[2][0])
    del loaded.model.model.visual.forward
    whole, grads = learn(loaded, batch)
    assert len(seen) == 4
    for logp, own in (kept[0], kept[2]):
        assert_close(logp, whole, atol=1e-5, rtol=1e-5)
        assert own.keys() == grads.keys() and not any("visual" in name for name in own)
        for name in grads:
            assert_close(own[name], grads[name], atol=1e-4, rtol=1e-3)


def test_what_is_known_does_not_change_a_bit(loaded):
    """A resumed run knows nothing yet, and computes in other company: the features have to be the same numbers."""
    batch = batch_of(loaded, (ONE, TWO), (THREE,))
    learn(loaded, batch_of(loaded, (TWO, THREE)))
    learn(loaded, batch_of(loaded, (ONE,)))
    known = learn(loaded, batch)
    memory(loaded)._forget(())
    fresh = learn(loaded, batch)
    assert torch.equal(known[0], fresh[0])
    assert all(torch.equal(known[1][name], fresh[1][name]) for name in known[1])


def test_changed_weights_are_noticed(loaded):
    batch, seen = batch_of(loaded, (ONE,)), count_computed(loaded)
    before, _ = learn(loaded, batch)
    with torch.no_grad():
        next(loaded.model.model.visual.parameters()).mul_(1.5)
    after, _ = learn(loaded, batch)
    assert len(seen) == 2 and not torch.equal(before, after)
    learn(loaded, batch)
    assert len(seen) == 2


def test_a_tower_that_learns_or_lies_in_parts_remembers_nothing(loaded):
    batch, seen = batch_of(loaded, (ONE,)), count_computed(loaded)
    weight = next(loaded.model.model.visual.parameters())
    learn(loaded, batch)
    weight.requires_grad_(True)
    _, grads = learn(loaded, batch)
    assert any("visual" in name for name in grads)
    learn(loaded, batch)
    assert len(seen) == 3 and memory(loaded).num_bytes == 0
    weight.requires_grad_(False)
    weight.ds_id = 0  # as DeepSpeed marks what it has divided
    learn(loaded, batch)
    learn(loaded, batch)
    assert len(seen) == 5


def test_memory_is_bounded_and_the_oldest_goes_first(loaded):
    keeper, seen = memory(loaded), count_computed(loaded)
    wanted, _ = learn(loaded, batch_of(loaded, (ONE,), (TWO,), (THREE,)))
    keeper.limit_bytes = keeper.num_bytes - 1
    keeper._forget(keeper.weights)
    del seen[:]
    learn(loaded, batch_of(loaded, (ONE,), (TWO,), (THREE,)))
    assert 0 < keeper.num_bytes <= keeper.limit_bytes and len(keeper.known) == 2
    learn(loaded, batch_of(loaded, (THREE,)))
    assert len(seen) == 3, "the newest was kept"
    again, _ = learn(loaded, batch_of(loaded, (ONE,), (TWO,), (THREE,)))
    assert len(seen) > 3 and torch.equal(again, wanted)
    keeper.limit_bytes = 0
    assert torch.equal(learn(loaded, batch_of(loaded, (ONE,), (TWO,), (THREE,)))[0], wanted) and not keeper.known


def test_a_copy_of_the_model_uses_its_own_tower(loaded):
    batch = batch_of(loaded, (ONE,))
    before, _ = learn(loaded, batch)
    other = copy.deepcopy(loaded.model)
    assert other.model.visual.forward.__self__.tower is other.model.visual
    with torch.no_grad():
        next(other.model.visual.parameters()).mul_(1.5)
    with torch.no_grad():
        assert not torch.equal(token_logprobs(other, batch)[0], before)
        assert torch.equal(token_logprobs(loaded.model, batch)[0], before)
