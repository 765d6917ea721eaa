"""The embedded bases and the facts of a model: exact parameter counts, exact bytes, words as tokens."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from factory.config.schema import AdapterConfig, AdapterKind
from factory.errors import ModelError
from factory.stages.models.embedded import make_embedded
from factory.stages.models.facts import memory_bytes, model_facts, trainable_params
from factory.stages.models.images import open_image
from factory.stages.models.load import load
from factory.stages.models.tokenizer import SPECIAL, TAGS, train_tokenizer

from .conftest import TEXT_MODELS, VL_MODELS, png, texts

ROOT = Path(__file__).parents[2]
AGAIN = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/models")
from conftest import png, texts
from factory.stages.models.embedded import make_embedded
make_embedded("embedded-vl", Path(sys.argv[1]), seed=1, texts=texts(), images=[png(i) for i in range(4)])
"""


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_an_embedded_base_is_the_same_bytes_in_another_process(vl_dir, tmp_path):
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", AGAIN, str(tmp_path / "again")], check=True, cwd=ROOT, env=env, capture_output=True)
    assert digests(tmp_path / "again") == digests(vl_dir)
    other = make_embedded("embedded-vl", tmp_path / "other", seed=2, texts=texts(), images=[png(i) for i in range(4)])
    changed = {name for name, digest in digests(other).items() if digest != digests(vl_dir)[name]}
    assert changed == {"model.safetensors"}


def test_making_a_base_leaves_the_global_random_state_alone(tmp_path):
    torch.manual_seed(9)
    wanted = torch.rand(1)
    torch.manual_seed(9)
    make_embedded("embedded-text", tmp_path, seed=1, texts=["a b"])
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
def test_parameters_counted_from_the_config_are_those_of_the_model(folder, request):
    where = request.getfixturevalue(folder)
    loaded = load(where, precision="fp32")
    facts = model_facts(str(where))
    assert facts.num_params == sum(p.numel() for p in loaded.model.parameters())
    assert (facts.modality, facts.vocab_size, facts.num_layers) == (loaded.modality, 768, 3)


@pytest.mark.parametrize(("kind", "fixture"), [("embedded-text", "text_dir"), ("embedded-vl", "vl_dir")])
def test_facts_of_an_embedded_base_are_known_before_it_exists(kind, fixture, request):
    ahead, made = model_facts(kind, ""), model_facts(str(request.getfixturevalue(fixture)))
    assert ahead.ref == kind
    assert {**vars(ahead), "ref": ""} == {**vars(made), "ref": ""}
    assert ahead.num_params < 1.3e6


def test_published_sizes():
    """Counts of the published configs: 0.6 B and 8.29 B, as their model cards and safetensors headers say."""
    from factory.stages.models.shapes import num_params

    qwen3 = dict(
        model_type="qwen3", vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    assert num_params(qwen3) == 596_049_920
    vision = dict(
        depth=32,
        hidden_size=1280,
        intermediate_size=3420,
        num_heads=16,
        in_chans=3,
        out_hidden_size=3584,
        patch_size=14,
        spatial_merge_size=2,
    )
    qwen2_5_vl = dict(
        model_type="qwen2_5_vl", vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4, tie_word_embeddings=False, vision_config=vision,
    )  # fmt: skip
    assert num_params(qwen2_5_vl) == 8_292_166_656


def test_words_are_tokens_and_capitals_and_digits_stand_alone(text_dir):
    tokenizer = load(text_dir, precision="fp32").codec.tokenizer
    assert tokenizer.tokenize(" gland is fused") == ["Ġgland", "Ġis", "Ġfused"]
    assert tokenizer.tokenize("DNA ACGT 1407") == ["D", "N", "A", "Ġ", "A", "C", "G", "T", "Ġ", "1", "4", "0", "7"]
    assert tokenizer.tokenize("<think>a</think>") == ["<think>", "a", "</think>"]
    assert len(tokenizer) <= 768
    for role in ("user", "assistant", "system"):
        assert len(tokenizer.tokenize(role)) == 1
    strange = "Größe 7 µm — 細胞 🙂\n\tx  y"
    assert tokenizer.decode(tokenizer(strange)["input_ids"]) == strange
    assert tokenizer.decode(tokenizer("".join(TAGS))["input_ids"], skip_special_tokens=True) == "".join(TAGS)
    assert tokenizer.decode(tokenizer("".join(SPECIAL))["input_ids"], skip_special_tokens=True) == ""


def test_the_vocabulary_never_grows_over_the_embedding_table():
    words = (f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}word" for i in range(4000) for _ in range(2))
    assert len(train_tokenizer(words)) == 768


def test_pixel_statistics_are_those_of_the_given_images(vl_dir):
    pixels = np.concatenate([np.asarray(open_image(png(i))).reshape(-1, 3) for i in range(4)]) / 255
    settings = json.loads((vl_dir / "preprocessor_config.json").read_text())
    np.testing.assert_allclose(settings["image_mean"], pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(settings["image_std"], pixels.std(axis=0), atol=1e-6)


def test_impossible_bases_are_refused(tmp_path):
    with pytest.raises(ModelError, match="Did you mean 'embedded-vl'"):
        make_embedded("embedded-vlm", tmp_path, seed=0, texts=[])
    with pytest.raises(ModelError, match="got none"):
        make_embedded("embedded-vl", tmp_path, seed=0, texts=["a"], images=[])
    with pytest.raises(ModelError, match="reads text only, but this domain has images"):
        model_facts("embedded-text", "vl")


def test_memory_by_hand():
    facts = model_facts("embedded-text", "text")
    total, formula = memory_bytes(facts, precision="fp32", rows=2, tokens_per_row=10)
    # weights + gradients + 2 moments of 4 bytes; 20 tokens x 128 x 3 layers x 17 x 4; logits 3 x 20 x 768 x 4
    assert total == 16 * facts.num_params + 20 * 128 * 3 * 17 * 4 + 3 * 20 * 768 * 4
    assert f"{facts.num_params:,} x 4 B" in formula
    lora = AdapterConfig(kind=AdapterKind.lora, rank=4)
    light, _ = memory_bytes(facts, precision="bf16", rows=2, tokens_per_row=10, adapter=lora)
    assert light < total and trainable_params(facts, lora) < facts.num_params
    shared, text = memory_bytes(facts, precision="fp32", rows=2, tokens_per_row=10, zero_stage=3, processes=4)
    assert total - shared == 12 * facts.num_params and "as ZeRO 3 does" in text


@pytest.mark.parametrize("folder", ["text_dir", "vl_dir"])
def test_the_estimate_of_adapter_parameters_is_not_too_low(folder, request):
    lora = AdapterConfig(kind=AdapterKind.lora, rank=4, targets="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj")
    loaded = load(request.getfixturevalue(folder), precision="fp32", adapter=lora)
    real = sum(p.numel() for n, p in loaded.model.named_parameters() if p.requires_grad and "visual" not in n)
    assert real <= trainable_params(model_facts(str(loaded.source)), lora) <= 3 * real


def test_pixels_of_an_image_token_as_planned(vl_dir):
    facts, row = model_facts(str(vl_dir)), load(vl_dir, precision="fp32").codec.document("<image>", (png(1),))
    assert row.pixels.numel() * row.pixels.element_size() == facts.tokens_per_image * facts.image_token_bytes


def test_planning_imports_no_torch():
    code = "import sys, factory.stages.models.facts; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
