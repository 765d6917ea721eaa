"""Small real model folders, made once per session: both embedded bases, and checkpoints of every supported architecture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from factory.contracts import Media

WORDS = ("sparse", "dense", "moderate", "intact", "fused", "density", "gland", "stain")
QWEN3_TEMPLATE = """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set body = message.content %}
        {%- if '</think>' in body %}{%- set body = body.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
        {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + body + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""
"""Rewrites thoughts as Qwen3's template does, and opens the thought in the generation prompt as Qwen3-Thinking's does."""

QWEN2_VL_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{% set image_count.value = image_count.value + 1 %}<|vision_start|>"
    "<|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The form of the template that Qwen2.5-VL is published with: a default system turn, list content."""


def png(seed: int, width: int = 64, height: int = 64) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def texts() -> list[str]:
    return [f"the {a} of the {b} is {c}; DNA {i} ACGT" for i, a in enumerate(WORDS) for b in WORDS for c in WORDS]


@pytest.fixture(scope="session")
def text_dir(tmp_path_factory) -> Path:
    from factory.stages.models.embedded import make_embedded

    return make_embedded("embedded-text", tmp_path_factory.mktemp("text"), seed=1, texts=texts())


@pytest.fixture(scope="session")
def vl_dir(tmp_path_factory) -> Path:
    from factory.stages.models.embedded import make_embedded

    return make_embedded("embedded-vl", tmp_path_factory.mktemp("vl"), seed=1, texts=texts(), images=[png(i) for i in range(4)])


@pytest.fixture(scope="session")
def qwen3_dir(tmp_path_factory, text_dir) -> Path:
    """A Qwen3 checkpoint in bf16, untied, whose chat template rewrites thoughts."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(2)
    model = Qwen3ForCausalLM(_decoder(Qwen3Config, tie_word_embeddings=False, head_dim=8)).to(torch.bfloat16)
    return _checkpoint(tmp_path_factory.mktemp("qwen3"), model, text_dir, QWEN3_TEMPLATE, None)


@pytest.fixture(scope="session")
def qwen2_dir(tmp_path_factory, text_dir) -> Path:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(3)
    return _checkpoint(tmp_path_factory.mktemp("qwen2"), Qwen2ForCausalLM(_decoder(Qwen2Config)), text_dir, None, None)


@pytest.fixture(scope="session")
def qwen2_5_vl_dir(tmp_path_factory, text_dir) -> Path:
    """A Qwen2.5-VL checkpoint: windowed attention, patches of 14, images resized."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(4)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    text = {**_SIZES, "rope_parameters": rope, "model_type": "qwen2_5_vl_text", "initializer_range": 0.1}
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1],
        "initializer_range": 0.1,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **_marks(text_dir))
    return _checkpoint(
        tmp_path_factory.mktemp("qwen25vl"), Qwen2_5_VLForConditionalGeneration(config), text_dir, QWEN2_VL_TEMPLATE, 14
    )


@pytest.fixture(scope="session")
def qwen3_vl_dir(tmp_path_factory, text_dir) -> Path:
    """A Qwen3-VL checkpoint with deepstack and two-frame patches, as the published ones have."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(5)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    text = {**_SIZES, "head_dim": 8, "rope_parameters": rope, "initializer_range": 0.1}
    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
        "initializer_range": 0.1,
    }  # fmt: skip
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_marks(text_dir))
    return _checkpoint(
        tmp_path_factory.mktemp("qwen3vl"), Qwen3VLForConditionalGeneration(config), text_dir, QWEN2_VL_TEMPLATE, 16
    )


_SIZES = {
    "vocab_size": 768, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip


def _decoder(config_type, **changes):
    return config_type(**{**_SIZES, "initializer_range": 0.1, **changes})


def _marks(text_dir: Path) -> dict[str, int]:
    from transformers import AutoTokenizer

    token = AutoTokenizer.from_pretrained(text_dir).convert_tokens_to_ids
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": token(f"<|{name}|>") for key, name in names.items()}


def _checkpoint(folder: Path, model, text_dir: Path, template: str | None, patch: int | None) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(text_dir)
    tokenizer.chat_template = template or tokenizer.chat_template
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if patch:
        settings = {
            "image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": patch, "temporal_patch_size": 2, "merge_size": 2,
            "size": {"shortest_edge": 4 * patch**2 * 4, "longest_edge": 4 * patch**2 * 16},
            "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
        }  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


TEXT_MODELS = ("text_dir", "qwen3_dir", "qwen2_dir")
VL_MODELS = ("vl_dir", "qwen2_5_vl_dir", "qwen3_vl_dir")
