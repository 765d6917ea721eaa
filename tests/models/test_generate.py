"""Sampling: greedy as transformers decodes, log-probabilities as the training forward, draws that others cannot disturb."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from factory.config.schema import AdapterConfig, AdapterKind
from factory.contracts import IMAGE, Message
from factory.errors import ConfigError
from factory.stages.models.codec import Encoded
from factory.stages.models.forward import model_inputs, token_logprobs
from factory.stages.models.generate import Sampling, choose, generate
from factory.stages.models.load import LoadedModel, load

from .conftest import TEXT_MODELS, VL_MODELS, png


def prompts_of(loaded: LoadedModel) -> list[Encoded]:
    """Prompts of different lengths; for a vision-language model with none, one and two images of different sizes."""
    ask = loaded.codec.prompt
    if loaded.modality == "text":
        return [ask([Message("user", "the stain " * n)]) for n in (3, 1, 6)]
    return [
        ask([Message("user", f"{IMAGE} the stain")], (png(1),)),
        ask([Message("user", f"{IMAGE}{IMAGE} a")], (png(2, 150, 60), png(3))),
        ask([Message("user", f"the {IMAGE} gland")], (png(4, 30, 100),)),
        ask([Message("user", "no image here")]),
    ]


def joined(prompts, found) -> list[Encoded]:
    rows = []
    for one in found:
        start = prompts[one.prompt_index]
        rows.append(Encoded(start.ids + one.ids, [0] * len(start.ids) + [1] * len(one.ids), start.pixels, start.grid))
    return rows


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
def test_greedy_equals_transformers_generate(folder, request):
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    prompts = prompts_of(loaded)
    found = generate(loaded, prompts, max_new_tokens=12, temperature=0.0, generator=torch.Generator(), stop_ids=())
    got = {one.prompt_index: one.ids for one in found}
    for index, prompt in enumerate(prompts):
        inputs = model_inputs(loaded.codec.collate([prompt]))
        inputs.pop("position_ids")  # transformers works out its own
        wanted = loaded.model.generate(
            **inputs, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=loaded.codec.pad_id
        )
        assert got[index] == wanted[0, len(prompt.ids) :].tolist()
    assert len(set(map(tuple, got.values()))) > 1, "all prompts got the same completion: the test would see nothing"


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampler_logprobs_equal_the_training_forward(folder, temperature, request):
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    prompts = prompts_of(loaded)
    found = list(
        generate(
            loaded,
            prompts,
            num_return=3,
            max_new_tokens=10,
            temperature=temperature,
            generator=torch.Generator().manual_seed(0),
            top_k=50,
        )
    )
    assert sorted((one.prompt_index, one.sample_index) for one in found) == [
        (p, s) for p in range(len(prompts)) for s in range(3)
    ]
    batch = loaded.codec.collate(joined(prompts, found))
    logprobs, entropy = token_logprobs(loaded.model, batch, temperature=temperature, with_entropy=True)
    for row, spread, mask, one in zip(logprobs, entropy, batch["loss_mask"].bool(), found, strict=True):
        assert_close(row[mask], torch.tensor(one.logprobs), atol=1e-4, rtol=0)
        assert spread[mask].mean().item() == pytest.approx(one.entropy, abs=1e-4)
        assert row[~mask].abs().sum() == 0


@pytest.mark.parametrize("folder", ["text_dir", "vl_dir"])
def test_a_rows_tokens_do_not_depend_on_who_else_has_finished(folder, request):
    """With many stop tokens rows leave at all times; the tokens up to the stop are those of the run in which none leaves."""
    loaded = load(request.getfixturevalue(folder), precision="fp32")
    prompts, stops = prompts_of(loaded), tuple(range(0, 768, 12))

    def run(stop_ids, **settings):
        seeded = torch.Generator().manual_seed(5)
        found = generate(
            loaded, prompts, num_return=4, max_new_tokens=24, temperature=1.0, generator=seeded, stop_ids=stop_ids, **settings
        )
        return {(one.prompt_index, one.sample_index): one for one in found}

    whole, cut, small = run(()), run(stops), run(stops, max_rows=4)
    assert sum(one.finished for one in cut.values()) > len(cut) // 2
    for key, one in cut.items():
        assert one.ids == whole[key].ids[: len(one.ids)] == small[key].ids
        assert one.finished == (one.ids[-1] in stops) and not set(one.ids[:-1]) & set(stops)
        assert one.finished or len(one.ids) == 24


def test_sampling_follows_the_distribution():
    # 20,000 even points through the inverse CDF hit each token in proportion to its probability
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    even = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    tokens, logprobs, entropy = choose(logits.expand(20_000, 4), Sampling(1, 1.0), even)
    assert_close(torch.bincount(tokens).float() / 20_000, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=1e-4, rtol=0)
    assert_close(logprobs, logits[tokens])
    # -(.5 ln .5 + .3 ln .3 + .15 ln .15 + .05 ln .05) = 1.1421
    assert entropy[0].item() == pytest.approx(1.1421, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "kept"), [({"top_k": 2}, {0, 1}), ({"top_p": 0.79}, {0, 1}), ({"top_p": 0.81}, {0, 1, 2}), ({"top_p": 0.1}, {0})]
)
def test_top_k_and_top_p_cut_the_tail_but_not_the_logprobs(settings, kept):
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    even = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    tokens, logprobs, _ = choose(logits.expand(1000, 4), Sampling(1, 1.0, **settings), even)
    assert set(tokens.tolist()) == kept
    assert_close(logprobs, logits[tokens])


@pytest.mark.parametrize("uniform", [None, torch.tensor([0.0], dtype=torch.float64)])
def test_image_tokens_are_never_written(vl_dir, uniform):
    codec = load(vl_dir, precision="fp32").codec
    logits = torch.zeros(1, 768)
    logits[0, codec.image_id], logits[0, 300] = 40.0, 20.0
    tokens, logprobs, _ = choose(
        logits, Sampling(1, 1.0 if uniform is not None else 0.0, top_k=1, banned=codec.image_ids), uniform
    )
    assert codec.image_id in codec.image_ids and tokens.item() == 300
    assert logprobs.item() == pytest.approx(-20.0, abs=1e-3), "the log-probability is still that of the whole distribution"


def test_the_last_draw_never_meets_a_token_of_weight_zero():
    logits = torch.tensor([[0.0, 0.0, -1e9, -1e9]])
    just_below_one = torch.tensor([1.0 - 2**-53], dtype=torch.float64)
    assert choose(logits, Sampling(1, 1.0), just_below_one)[0].item() == 1


@pytest.mark.parametrize("folder", ["text_dir", "vl_dir"])
def test_adapters_sample_as_they_score(folder, request):
    """A peft model with weights moved off zero: the sampler must see the adapter, and put the training mode back."""
    loaded = load(
        request.getfixturevalue(folder), precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=2, dropout=0.5)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    loaded.model.train()
    prompts = prompts_of(loaded)
    found = list(generate(loaded, prompts, max_new_tokens=6, temperature=1.0, generator=torch.Generator().manual_seed(0)))
    assert loaded.model.training
    loaded.model.eval()
    batch = loaded.codec.collate(joined(prompts, found))
    got = token_logprobs(loaded.model, batch)[0].sum(dim=1)
    assert_close(got, torch.tensor([sum(one.logprobs) for one in found]), atol=1e-4, rtol=1e-5)
    with loaded.model.disable_adapter():
        assert (token_logprobs(loaded.model, batch)[0].sum(dim=1) - got).abs().max() > 0.01


def test_impossible_settings_are_refused(text_dir):
    loaded = load(text_dir, precision="fp32")
    with pytest.raises(ConfigError, match="temperature >= 0"):
        next(generate(loaded, prompts_of(loaded), max_new_tokens=4, temperature=-1.0, generator=torch.Generator()))
