"""PAPO by hand, against a slow reference, the masked image against a masked picture, and steps of a real tiny model."""

import io
import math

import numpy as np
import pytest
import seeing
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from factory.contracts import IMAGE, Media, Message
from factory.stages.models.masked_view import blackened
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.papo import Papo, largest
from factory.stages.rl.tokens import TokenBatch

pytestmark = pytest.mark.proves("auxiliary.papo", "vector", "table", "law", "float64", "run")


def batch(logp, masked, has_view=None, mask=None):
    zeros = torch.zeros_like(logp)
    mask = torch.ones_like(logp) if mask is None else mask
    has_view = torch.ones(len(logp), 1, dtype=logp.dtype) if has_view is None else has_view
    return TokenBatch(
        logp=logp, old=logp.detach(), ref=zeros, masked=masked, mask=mask, advantages=zeros, weights=zeros + 1, kl_weights=zeros + 1,
        flags=zeros, kinds=torch.zeros(len(logp), dtype=torch.long), totals={}, has_view=has_view,
    )  # fmt: skip


def test_the_gain_is_the_k3_of_the_golden_vector(context):
    # B15: k3 of logp -1.0 and ref -1.5 is 0.1065307; here the masked view stands where the reference does
    term = Papo(gamma=1.0, eta=0.0, eta_masked=0.0)(context(), batch(torch.tensor([[-1.0]]), torch.tensor([[-1.5]])))
    assert term.item() == pytest.approx(-0.1065307, abs=1e-6)


def test_all_three_terms_by_hand(context):
    made = batch(torch.tensor([[-1.0, -0.5]]), torch.tensor([[-1.5, -0.5]]))
    term = Papo(gamma=0.01, eta=0.03, eta_masked=0.05)(context(), made)
    # -0.01 * 0.1065307 + 0.05 * 1.5 + 0.03 * 1.0 = 0.1039347; equal log-probs: 0 + 0.05 * 0.5 + 0.03 * 0.5 = 0.04
    torch.testing.assert_close(term, torch.tensor([[0.1039347, 0.04]]), rtol=0, atol=1e-6)


def test_the_gain_is_raised_and_both_entropies_are_lowered(context):
    logp, masked = torch.tensor([[-1.0]], requires_grad=True), torch.tensor([[-2.0]], requires_grad=True)
    Papo(gamma=1.0, eta=0.0, eta_masked=0.0)(context(), batch(logp, masked)).sum().backward()
    # d k3 / d logp = 1 - exp(masked - logp) = 1 - 1/e; minimising -K raises logp and lowers masked
    assert (logp.grad.item(), masked.grad.item()) == pytest.approx((math.exp(-1) - 1, 1 - math.exp(-1)))
    logp.grad = masked.grad = None
    Papo(gamma=0.0)(context(), batch(logp, masked)).sum().backward()
    assert (logp.grad.item(), masked.grad.item()) == pytest.approx((-0.03, -0.03)), "minimising raises both log-probs"


def test_options_by_hand(context):
    logp, masked = torch.tensor([[-1.0, -1.0]], requires_grad=True), torch.tensor([[-1.5, -1.0]])
    only_gain = {"gamma": 1.0, "eta": 0.0, "eta_masked": 0.0}
    # a gap of -20 has k3 = 19 + e^-20, above the clamp of 10
    far = Papo(**only_gain)(context(), batch(torch.tensor([[-1.0]]), torch.tensor([[-21.0]])))
    assert far.item() == -10.0
    # linear: step 25 of 100 leaves three quarters of all terms
    late = Papo(anneal="linear", **only_gain)(context(step=25), batch(logp, masked))
    assert late[0, 0].item() == pytest.approx(-0.75 * 0.1065307, abs=1e-6)
    # mean K of the rollout is 0.0533, above the cap of 0.05: the value stays, the gradient goes
    capped = Papo(cap=0.05, **only_gain)(context(), batch(logp, masked))
    assert capped[0, 0].item() == pytest.approx(-0.1065307, abs=1e-6)
    assert torch.autograd.grad(capped.sum(), logp)[0].abs().max() == 0.0
    free = Papo(cap=0.06, **only_gain)(context(), batch(logp, masked))
    assert torch.autograd.grad(free.sum(), logp)[0].abs().max() > 0.1


def test_the_largest_tokens_by_hand():
    values = torch.tensor([[0.5, 0.1, 0.9, 0.3, 0.2, 7.0], [0.4, 0.4, 0.0, 0.0, 0.0, 0.0]])
    rows = torch.tensor([[1.0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    # 0.4 * 5 = 2 of the first row (the last token does not count); 1 of 2 in the second, and the tie with it
    assert largest(values, rows, 0.4).tolist() == [[1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "settings", [{"gamma": -1.0}, {"eta": -0.1}, {"probability": 0.0}, {"top_share": 1.1}, {"cell_px": 0}, {"anneal": "cosine"}, {"clamp": 0.0}]
)  # fmt: skip
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError):
        Papo(**settings)


numbers = st.floats(-6, 0)


@given(rows=st.lists(st.tuples(st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=4, max_size=4), st.booleans()),
                     min_size=1, max_size=4),
       share=st.sampled_from([0.2, 0.5, 1.0]))  # fmt: skip
def test_the_term_equals_a_slow_reference_row_by_row(rows, share):
    logp, masked, mask = (
        torch.tensor([[float(token[i]) for token in row] for row, _ in rows], dtype=torch.float64) for i in range(3)
    )
    has_view = torch.tensor([[float(view)] for _, view in rows], dtype=torch.float64)
    ctx = StepContext(0, 1, 0, 8, 2)
    term = Papo(gamma=0.2, top_share=share)(ctx, batch(logp * mask, masked * mask, has_view, mask))
    for found, (row, view) in zip(term.tolist(), rows, strict=True):
        ks = [min(math.exp(m - p) - (m - p) - 1, 10.0) if on else None for p, m, on in row]
        live = sorted((k for k in ks if k is not None), reverse=True)
        least = live[max(math.ceil(share * len(live) - 1e-9), 1) - 1] if live else 0.0
        for value, k, (p, m, on) in zip(found, ks, row, strict=True):
            gain = k if on and k >= least - 1e-12 else 0.0
            assert value == pytest.approx((-0.2 * gain - 0.03 * m - 0.03 * p) if view and on else 0.0, abs=1e-9)
    alone = [Papo(gamma=0.2, top_share=share)(ctx, batch(*(t[i : i + 1] for t in (logp * mask, masked * mask, has_view, mask)))) for i in range(len(rows))]  # fmt: skip
    torch.testing.assert_close(torch.cat(alone), term, rtol=0, atol=1e-12)


def noise(width, height):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(30, 256, (height, width, 3), dtype=np.uint8)
    return pixels, Image.fromarray(pixels)


def as_media(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Media(data=buffer.getvalue())


@pytest.mark.parametrize(("patch", "frames"), [(8, 1), (14, 2), (16, 2)])
def test_a_masked_view_is_the_picture_with_black_squares(patch, frames):
    """Blacking out the encoded patches gives what the processor makes of the blacked-out picture, whatever its patch size."""
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from factory.stages.models.images import encode_images

    width, height = patch * 8, patch * 4
    processor = Qwen2VLImageProcessorPil(
        patch_size=patch, temporal_patch_size=frames, merge_size=2, size={"shortest_edge": 1, "longest_edge": 10**7}
    )
    pixels, image = noise(width, height)
    encoded, grid = encode_images(processor, [as_media(image)])
    got = blackened(encoded, grid, processor, cell_px=14, probability=0.6, seed=5)
    cells = torch.rand(-(-height // 14), -(-width // 14), generator=torch.Generator().manual_seed(5)) < 0.6
    for row, column in cells.nonzero().tolist():
        pixels[row * 14 : row * 14 + 14, column * 14 : column * 14 + 14] = 0
    wanted, _ = encode_images(processor, [as_media(Image.fromarray(pixels))])
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
    assert not torch.equal(got, encoded)
    if patch == 14:
        hidden = (got != encoded).any(1)
        assert int(hidden.sum()) == int(cells.sum()), "a cell of 14 px is one patch of 14 px"


@given(seed=st.integers(0, 2**40), probability=st.floats(0.05, 1.0))
def test_the_mask_is_fixed_by_its_seed_and_changes_nothing_but_hidden_pixels(seed, probability):
    processor = type(
        "P", (), {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 1, "image_mean": [0.5], "image_std": [0.25]}
    )
    pixels = torch.ones(16, 64)
    grid = torch.tensor([[1, 2, 2], [1, 2, 6]])
    found = blackened(pixels, grid, processor, cell_px=14, probability=probability, seed=seed)
    assert torch.equal(found, blackened(pixels, grid, processor, cell_px=14, probability=probability, seed=seed))
    assert torch.equal(pixels, torch.ones(16, 64)) and set(found.unique().tolist()) <= {1.0, -2.0}
    assert probability < 1 or set(found.unique().tolist()) == {-2.0}


def test_a_prompts_view_is_new_in_each_step_and_a_text_prompt_has_none(seeing_base):
    from factory.stages.models.load import load

    codec = load(seeing_base, precision="fp32").codec
    prompt = codec.prompt([Message("user", f"{IMAGE} which colour")], (seeing.picture("red"),))
    views = [
        Papo().masked_view(StepContext(step, 9, 0, 8, 2), codec, name, prompt)
        for step, name in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    ]
    same = [torch.equal(views[0].pixels, view.pixels) for view in views]
    assert same == [True, True, False, False] and views[0].ids == prompt.ids
    blind = codec.prompt([Message("user", "which colour")])
    assert Papo().masked_view(StepContext(0, 9, 0, 8, 2), codec, "c", blind) is blind


def seen(**settings):
    return {"num_steps": 3, "pieces": {"auxiliary": {"papo": {"gamma": 0.1, **settings}}}}


@pytest.mark.parametrize("recompute", [False, True])
def test_micro_batches_do_not_change_a_step_with_a_masked_view(run_seeing, recompute):
    changes = seen(recompute=recompute, top_share=0.5) | {"num_steps": 1}
    _, rows, _ = run_seeing("whole", **changes)
    _, others, _ = run_seeing("split", optim={"micro_batch_size": 3}, **changes)
    assert rows[0]["auxiliary/auxiliary.papo"] != 0.0
    assert others[0]["loss"] == pytest.approx(rows[0]["loss"], abs=1e-6)
    assert others[0]["grad_norm"] == pytest.approx(rows[0]["grad_norm"], rel=1e-4)


def test_the_masked_entropy_trains_only_when_recomputed(run_seeing):
    off = {"gamma": 0.0, "eta": 0.0, "num_steps": 1}
    steps = off.pop("num_steps")
    _, plain, _ = run_seeing("plain", **seen(**off, eta_masked=0.0) | {"num_steps": steps})
    _, fixed, _ = run_seeing("fixed", **seen(**off, eta_masked=0.5) | {"num_steps": steps})
    _, moved, _ = run_seeing("moved", **seen(**off, eta_masked=0.5, recompute=True) | {"num_steps": steps})
    # The same number in the figures, and no gradient of it by default, as in the released code.
    assert fixed[0]["auxiliary/auxiliary.papo"] == pytest.approx(moved[0]["auxiliary/auxiliary.papo"], rel=1e-4)
    assert fixed[0]["loss"] > plain[0]["loss"] + 0.01 and fixed[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=1e-6)
    assert abs(moved[0]["grad_norm"] - plain[0]["grad_norm"]) > 1e-3 * plain[0]["grad_norm"]


@pytest.mark.parametrize("recompute", [False, True])
def test_a_resumed_run_with_a_masked_view_is_the_uninterrupted_one(run_seeing, recompute):
    whole, _, _ = run_seeing("whole", **seen(recompute=recompute))
    with pytest.raises(KeyboardInterrupt):
        run_seeing("cut", stop_after=3, **seen(recompute=recompute))
    cut, rest, _ = run_seeing("cut", **seen(recompute=recompute))
    assert 0 < len(rest) < 3
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert all((one[name] == other[name]).all() for name in one)
