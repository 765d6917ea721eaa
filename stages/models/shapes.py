"""The shapes of the two embedded bases, and how many parameters a model of a known architecture has.

Pure: no torch, no transformers. `facts.py` counts with it, `embedded.py` builds with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.errors import ModelError

EMBEDDED_VOCAB = 768
"""Rows of the embedding table. The tokenizer may use fewer; the rest are never written by it."""

TEXT_TYPES = ("qwen2", "qwen3")
VL_TYPES = ("qwen2_5_vl", "qwen3_vl")
DNA_TYPES = ("dna_qwen3",)
"""Made by `dna/assemble.py`."""

_DECODER: dict[str, Any] = {
    "vocab_size": EMBEDDED_VOCAB, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip

EMBEDDED_TEXT: dict[str, Any] = {
    **_DECODER, "model_type": "qwen3", "intermediate_size": 384, "initializer_range": 0.06,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}  # fmt: skip
"""A Qwen3 decoder of about 0.7 M parameters."""

EMBEDDED_VL: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": {
        **_DECODER, "model_type": "qwen3_vl_text", "intermediate_size": 256, "initializer_range": 0.04,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True,
        },
    },
    "vision_config": {
        "model_type": "qwen3_vl_vision", "depth": 2, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4,
        "in_channels": 3, "patch_size": 8, "temporal_patch_size": 1, "spatial_merge_size": 2, "out_hidden_size": 128,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [], "initializer_range": 0.04,
    },
}  # fmt: skip
"""A Qwen3-VL of about 1.1 M parameters; a tile of 64 px becomes 8 x 8 patches and 16 image tokens."""

EMBEDDED_DNA: dict[str, Any] = {
    **EMBEDDED_TEXT, "model_type": "dna_qwen3", "dna_pad": 0,
    "dna_encoder": {
        "model_type": "esm", "vocab_size": 7, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": 1026, "position_embedding_type": "rotary", "token_dropout": False,
        "emb_layer_norm_before": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.06,
        "pad_token_id": 0, "mask_token_id": 1,
    },
}  # fmt: skip
"""The same decoder with an ESM encoder of about 70,000 parameters (the architecture of Nucleotide Transformer)."""

EMBEDDED = {"embedded-text": EMBEDDED_TEXT, "embedded-vl": EMBEDDED_VL, "embedded-dna": EMBEDDED_DNA}

TILE_PX = 64
"""Side of an image that the embedded vision-language model takes without resizing."""


def modality_of(config: Mapping[str, Any], where: str) -> str:
    """`text`, `vl` or `dna`. Raises ModelError when the architecture is none of those the factory trains."""
    kind = config.get("model_type")
    if kind in TEXT_TYPES:
        return "text"
    if kind in VL_TYPES:
        return "vl"
    if kind in DNA_TYPES:
        return "dna"
    raise ModelError(
        f"{where}: model_type is {kind!r}; the factory trains {', '.join(TEXT_TYPES + VL_TYPES + DNA_TYPES)}. "
        "Choose a base of one of these architectures with --base."
    )


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decoder's settings: nested under `text_config` in new files, flat in those of Qwen2.5-VL as published."""
    return config.get("text_config") or config


def num_params(config: Mapping[str, Any]) -> int:
    """Parameters of a model, tied tables counted once. Raises ModelError when the config lacks a size."""
    try:
        total = _decoder_params(config)
        if "vision_config" in config:
            tower = config["vision_config"]
            total += _tower_qwen3(tower) if config["model_type"] == "qwen3_vl" else _tower_qwen2_5(tower)
        if config.get("dna_encoder"):
            total += _dna_params(config["dna_encoder"], config["hidden_size"])
    except KeyError as err:
        raise ModelError(f"config.json lacks {err}; parameters cannot be counted. Is it a complete transformers folder?") from err
    return total


def _decoder_params(config: Mapping[str, Any]) -> int:
    text = text_part(config)
    hidden, heads, layers = text["hidden_size"], text["num_attention_heads"], text["num_hidden_layers"]
    is_qwen3 = "qwen3" in config["model_type"]
    head = text.get("head_dim") or (128 if is_qwen3 else hidden // heads)
    query, keys = heads * head, (text.get("num_key_value_heads") or heads) * head
    attention = hidden * (query + 2 * keys) + query * hidden
    if is_qwen3:
        attention += 2 * head + (query + 2 * keys + hidden if text.get("attention_bias") else 0)  # q_norm and k_norm
    else:
        attention += query + 2 * keys  # Qwen2 has biases on q, k and v
    layer = attention + 3 * hidden * text["intermediate_size"] + 2 * hidden
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    return layers * layer + hidden + text["vocab_size"] * hidden * (1 if tied else 2)


def _dna_params(encoder: Mapping[str, Any], width: int) -> int:
    """Encoder of BERT's build (ESM is one) and the projection; learned positions, where it has them, included."""
    hidden, inner = encoder["hidden_size"], encoder["intermediate_size"]
    block = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
    is_esm = encoder["model_type"] == "esm"
    positions = 0 if encoder.get("position_embedding_type") == "rotary" else encoder["max_position_embeddings"] * hidden
    extra = (
        2 * hidden * (1 + bool(encoder.get("emb_layer_norm_before")))
        if is_esm
        else 2 * hidden + encoder.get("type_vocab_size", 2) * hidden
    )
    return encoder["vocab_size"] * hidden + positions + encoder["num_hidden_layers"] * block + extra + hidden * width + width


def _patch_volume(tower: Mapping[str, Any]) -> int:
    return tower.get("in_channels", tower.get("in_chans", 3)) * tower.get("temporal_patch_size", 2) * tower["patch_size"] ** 2


def _tower_qwen3(tower: Mapping[str, Any]) -> int:
    hidden, inner = tower["hidden_size"], tower["intermediate_size"]
    merged = hidden * tower["spatial_merge_size"] ** 2
    attention = 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden
    block = attention + 2 * hidden * inner + inner + hidden + 4 * hidden
    projector = merged * merged + merged + merged * tower["out_hidden_size"] + tower["out_hidden_size"]
    deep = len(tower["deepstack_visual_indexes"])
    return (
        _patch_volume(tower) * hidden + hidden
        + tower["num_position_embeddings"] * hidden
        + tower["depth"] * block
        + projector + 2 * hidden
        + deep * (projector + 2 * merged)
    )  # fmt: skip


def _tower_qwen2_5(tower: Mapping[str, Any]) -> int:
    hidden, inner = tower["hidden_size"], tower["intermediate_size"]
    merged = hidden * tower["spatial_merge_size"] ** 2
    attention = 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden
    block = attention + 3 * hidden * inner + 2 * inner + hidden + 2 * hidden
    projector = merged * merged + merged + merged * tower["out_hidden_size"] + tower["out_hidden_size"]
    return _patch_volume(tower) * hidden + tower["depth"] * block + projector + hidden
