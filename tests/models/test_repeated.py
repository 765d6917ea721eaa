"""Sharing repeated images changes neither outputs nor gradients, and really skips them."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from factory.contracts import IMAGE
from factory.stages.models.forward import token_logprobs
from factory.stages.models.load import load
from factory.stages.models.repeated import distinct_images

from .conftest import VL_MODELS, png


def test_distinct_images_by_hand():
    # four images of two patches; the third equals the first, the fourth has the first's sum but other pixels
    pixels = torch.tensor([[1.0], [2.0], [5.0], [5.0], [1.0], [2.0], [2.0], [1.0]])
    grid = torch.tensor([[1, 1, 2]] * 4)
    assert distinct_images(pixels, grid) == ([0, 1, 3], [0, 1, 0, 2])
    # equal pixels in another shape are another image
    assert distinct_images(pixels[[0, 1, 0, 1]], torch.tensor([[1, 1, 2], [1, 2, 1]])) == ([0, 1], [0, 1])


@pytest.mark.parametrize("folder", VL_MODELS)
def test_sharing_changes_no_logprob_and_no_gradient(folder, request):
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    one, two = png(1, 150, 60), png(2)
    pairs = [((one, two), " stain"), ((one,), " gland"), ((two,), " dense"), ((two, one), " fused"), ((one, one), " DNA")]
    batch = loaded.codec.collate([loaded.codec.document(IMAGE * len(media) + text, media) for media, text in pairs])
    tower = loaded.model.model.visual
    seen: list[int] = []
    tower.patch_embed.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))

    def run() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loaded.model.zero_grad()
        logp = token_logprobs(loaded.model, batch)[0]
        logp.sum().backward()
        return logp.detach(), {
            name: weight.grad.clone() for name, weight in loaded.model.named_parameters() if weight.grad is not None
        }

    shared, shared_grads = run()
    tower._forward_pre_hooks.clear()
    tower._forward_hooks.clear()
    whole, grads = run()
    sizes = {media.sha256(): len(loaded.codec.document(IMAGE, (media,)).pixels) for media in (one, two)}
    assert seen == [sum(sizes.values()), 5 * sizes[one.sha256()] + 3 * sizes[two.sha256()]]
    assert_close(shared, whole, atol=1e-5, rtol=1e-5)
    assert any("visual" in name for name in grads) and shared_grads.keys() == grads.keys()
    for name in grads:
        assert_close(shared_grads[name], grads[name], atol=1e-4, rtol=1e-3)
