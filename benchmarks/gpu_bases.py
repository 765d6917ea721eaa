"""Bases with random weights for `benchmarks/gpu.py`, in the shapes of published models; and what a token through them costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_task import WORDS

_VISION = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112}
_TOWER = {
    **_VISION,
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_QWEN3 = {
    "vocab_size": 151_936, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 40_960, "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip
_QWEN25_15B = {
    "vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}  # fmt: skip
_TINY = {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}

SHAPES: dict[str, Mapping[str, Any]] = {
    "qwen3-0.6b": {**_QWEN3, "hidden_size": 1024, "intermediate_size": 3072},
    "qwen3-1.7b": {**_QWEN3, "hidden_size": 2048, "intermediate_size": 6144},
    "qwen2.5-vl-2b": {"text": _QWEN25_15B, "vision": {**_TOWER, "out_hidden_size": 1536}},
    "tiny": {**_QWEN3, **_TINY, "num_key_value_heads": 1, "head_dim": 32},
    "tiny-vl": {
        "text": {
            **_QWEN25_15B,
            **_TINY,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
        "vision": {
            **_VISION,
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 2,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 64,
        },
    },
}
"""qwen2.5-vl-2b: the language model of Qwen2.5-1.5B under Qwen2.5-VL's vision tower (the smallest published one is 3B)."""


def is_vl(shape: str) -> bool:
    """True when it takes images."""
    return "vision" in SHAPES[shape]


def make_base(shape: str, folder: Path) -> Path:
    """A model folder in bf16, made once."""
    if (folder / "done").is_file():
        return folder
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

    from factory.stages.models.chat import default_template
    from factory.stages.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([" ".join(WORDS)] * 20)
    tokenizer.chat_template = default_template()
    token = tokenizer.convert_tokens_to_ids
    ends = {"eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>")}
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        if is_vl(shape):
            marks = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
            config = Qwen2_5_VLConfig(
                text_config={**SHAPES[shape]["text"], "model_type": "qwen2_5_vl_text", **ends}, vision_config=dict(SHAPES[shape]["vision"]),
                tie_word_embeddings=True, **{f"{name}_token_id": token(f"<|{mark}|>") for name, mark in marks.items()},
            )  # fmt: skip
            model = Qwen2_5_VLForConditionalGeneration(config)
        else:
            model = Qwen3ForCausalLM(Qwen3Config(**SHAPES[shape], **ends))
    model.to(torch.bfloat16).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    if is_vl(shape):
        _write_image_settings(folder)
    (folder / "done").write_text("")
    return folder


def _write_image_settings(folder: Path) -> None:
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "do_resize": True,
        "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"shortest_edge": 56 * 56, "longest_edge": 448 * 448},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Sizes:
    """Parameters by what runs through them."""

    blocks: int
    """Of the decoder without its embedding table: every token."""
    head: int
    """Of the output layer: only tokens that are learned from."""
    vision: int
    """Of the tower: every patch."""
    width: int
    """Layers x width of the attention: what a token's product with each earlier one costs."""

    @classmethod
    def of(cls, model: Any) -> Sizes:
        """Counted on a loaded model."""
        text = model.config.get_text_config()
        table = text.vocab_size * text.hidden_size
        named = [(name, p.numel()) for name, p in model.named_parameters() if "lora_" not in name]
        vision = sum(size for name, size in named if "visual" in name)
        everything = sum(size for _, size in named)
        heads = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
        tables = table if any("lm_head" not in name and size == table for name, size in named) else 0
        separate = sum(size for name, size in named if "lm_head" in name)
        return cls(everything - vision - tables - separate, table, vision, text.num_hidden_layers * heads)

    def flops(self, *, tokens: float, learned: float, patches: float, length: float, is_adapter: bool) -> float:
        """Of a forward and backward, recomputation not counted: 6 a parameter and token (PaLM, arXiv 2204.02311, appendix B), 4 where the
        weights are frozen and only the gradient passes through; attention 2 x as many a layer, width and earlier token."""
        times = 4 if is_adapter else 6
        return times * (tokens * self.blocks + learned * self.head + patches * self.vision + 2 * tokens * self.width * length)
