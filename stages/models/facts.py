"""What `plan` may know of a model without loading it: sizes read from config.json, and the memory that training takes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.config.schema import AdapterConfig, AdapterKind
from factory.contracts import ModelFacts
from factory.errors import ModelError
from factory.stages.models.shapes import EMBEDDED, TILE_PX, modality_of, num_params, text_part

_BYTES = {"fp32": 4, "bf16": 2}
_VALUES_PER_TOKEN_LAYER = 17
"""Activations kept for the backward pass of one token in one layer, in units of the hidden size (arXiv 2205.05198, eq. 1)."""


def model_facts(ref: str, modality: str = "") -> ModelFacts:
    """Sizes of `embedded-text`, `embedded-vl` or a local folder (an adapter folder answers for its base).

    Args:
        ref: name of an embedded base, or a folder with config.json.
        modality: `text` or `vl` as the domain needs it; empty accepts both.

    Raises:
        ModelError: unknown reference, no config.json, unsupported model_type, or a text-only base for a domain with images.
    """
    if ref in EMBEDDED:
        config: Mapping[str, Any] = EMBEDDED[ref]
        tokens_per_image = (TILE_PX // 16) ** 2 if ref == "embedded-vl" else 0
    else:
        folder = base_folder(Path(ref))
        config = read_config(folder)
        tokens_per_image = _max_image_tokens(folder, config)
    found = modality_of(config, ref)
    if modality == "vl" and found == "text":
        raise ModelError(
            f"{ref} reads text only, but this domain has images. Choose a vision-language base, for example --base embedded-vl."
        )
    text = text_part(config)
    return ModelFacts(
        ref=ref, modality=found, num_params=num_params(config), hidden_size=text["hidden_size"],
        num_layers=text["num_hidden_layers"],
        vocab_size=text["vocab_size"], context=text.get("max_position_embeddings", 32_768), tokens_per_image=tokens_per_image,
        image_token_bytes=_image_token_bytes(config),
        is_moe=any(text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")),
    )  # fmt: skip


def read_config(folder: Path) -> Mapping[str, Any]:
    """config.json of a model folder. Raises ModelError: no such folder, a hub id, no config.json, or not JSON."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelError(_missing(str(folder)))
    if not path.is_file():
        raise ModelError(
            f"{folder}: has no config.json, so it is not a transformers model folder. "
            "Point at the folder that save_pretrained wrote."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ModelError(f"{path}: cannot be read: {err}. Copy the model folder again.") from err
    if not isinstance(config, dict):
        raise ModelError(f"{path}: must hold a JSON object, got {type(config).__name__}. Copy the model folder again.")
    return config


def _missing(ref: str) -> str:
    if ref.count("/") == 1 and not ref.startswith((".", "/", "~")):
        return (
            f"{ref} is no folder here; it looks like a hub id, and the network is off. "
            f"Add --online, or fetch it once with `hf download {ref} --local-dir DIR` and give --base DIR."
        )
    return f"{ref}: no such folder. Give `embedded-text`, `embedded-vl` or a folder with config.json and *.safetensors."


def base_folder(folder: Path) -> Path:
    """The folder that holds config.json: `folder` itself, or the base named by its adapter_chain.json."""
    path = folder / "adapter_chain.json"
    return read_chain(folder)[0] if path.is_file() else folder


def read_chain(folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """(base, earlier adapters) of an adapter folder. Paths are relative to it, or to where it was first written.

    Raises ModelError when the file is damaged or a named folder is gone.
    """
    path = folder / "adapter_chain.json"
    try:
        chain = json.loads(path.read_text(encoding="utf-8"))
        written_at = Path(chain.get("written_at", folder))
        names = [chain["base"], *chain["adapters"]]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as err:
        raise ModelError(f"{path}: cannot be read: {err!r}. It must be written by the factory; build the stage again.") from err
    found = [_existing(path, [(folder / name).resolve(), (written_at / name).resolve()]) for name in names]
    return found[0], tuple(found[1:])


def _existing(path: Path, candidates: list[Path]) -> Path:
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise ModelError(
        f"{path}: names {candidates[0]}, which is gone. Put the folder back, or build the stages from the base again."
    )


def _max_image_tokens(folder: Path, config: Mapping[str, Any]) -> int:
    """Most tokens that one image may take: the processor's largest area over the area of one token."""
    if "vision_config" not in config:
        return 0
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    largest = settings.get("max_pixels") or (settings.get("size") or {}).get("longest_edge") or 28 * 28 * 1280
    tower = config["vision_config"]
    side = tower["patch_size"] * tower["spatial_merge_size"]
    return int(largest) // side**2


def _image_token_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of the pixels under one image token, as the model reads them."""
    tower = config.get("vision_config", {})
    side = tower.get("patch_size", 16) * tower.get("spatial_merge_size", 2)
    return side**2 * tower.get("in_channels", 3) * tower.get("temporal_patch_size", 2) * 4


def kept_images(facts: ModelFacts, *, items: int, cache_mb: int) -> tuple[int, str]:
    """Bytes of encoded items that a stage keeps between epochs (`batches.LazyEncoded`), and the formula as text; empty when none.

    Each of `items` counts with one image. Texts are left out: 48 B a token.
    """
    wanted = items * facts.tokens_per_image * facts.image_token_bytes
    if not wanted or not cache_mb:
        return 0, ""
    kept = min(wanted, cache_mb * 2**20)
    return (
        kept,
        f" + kept images min({items:,} x {facts.tokens_per_image} tokens x {facts.image_token_bytes:,} B, {cache_mb} MiB)",
    )


def trainable_params(facts: ModelFacts, adapter: AdapterConfig | None = None) -> int:
    """Parameters that get a gradient; for adapters an upper estimate (7 square-ish matrices per layer, MLP 4 x hidden wide)."""
    if adapter is None or adapter.kind == AdapterKind.none:
        return facts.num_params
    return min(facts.num_params, facts.num_layers * adapter.rank * facts.hidden_size * (4 * 2 + 3 * 5))


def memory_bytes(
    facts: ModelFacts, *, precision: str, rows: int, tokens_per_row: int, adapter: AdapterConfig | None = None,
    gradient_checkpointing: bool = False, zero_stage: int = -1, processes: int = 1, training: bool = True,
) -> tuple[int, str]:  # fmt: skip
    """Estimated peak bytes on one process, and the formula with its numbers as text.

    Args:
        precision: `fp32` or `bf16`, the format of frozen weights and activations. What learns is kept in fp32, with its
            gradients and Adam moments (stages/learner.py).
        rows, tokens_per_row: of one micro-batch.
        zero_stage: DeepSpeed stage (FSDP2 counts as 3); 1 shares the moments over the processes, 2 also the gradients, 3 also the weights.
        training: False leaves out gradients, moments and kept activations.

    An estimate within a factor of two for planning, not a guarantee. Activations: 17 hidden-sized values per token and layer
    (arXiv 2205.05198, eq. 1, without the attention matrix, which SDPA does not keep); with gradient checkpointing 1 per layer
    and 17 once.
    """
    width = _BYTES[str(getattr(precision, "value", precision))]
    tokens, share = rows * tokens_per_row, max(processes, 1)
    weights = facts.num_params * width // (share if zero_stage >= 3 else 1)
    if not training:
        total = weights + tokens * facts.num_layers * facts.hidden_size * 2 * width
        return (
            total,
            f"weights {facts.num_params:,} x {width} B "
            f"+ cache {tokens:,} tokens x {facts.num_layers} x {2 * facts.hidden_size} x {width} B",
        )
    trained = trainable_params(facts, adapter)
    frozen = 0 if trained >= facts.num_params else facts.num_params
    weights = (frozen * width + trained * 4) // (share if zero_stage >= 3 else 1)
    gradients = trained * 4 // (share if zero_stage >= 2 else 1)
    moments = 2 * trained * 4 // (share if zero_stage >= 1 else 1)
    kept = facts.num_layers + _VALUES_PER_TOKEN_LAYER if gradient_checkpointing else facts.num_layers * _VALUES_PER_TOKEN_LAYER
    activations = tokens * facts.hidden_size * kept * width
    logits = 3 * tokens * facts.vocab_size * 4
    text = (
        f"frozen weights {frozen:,} x {width} B + trained {trained:,} x 4 B + gradients {trained:,} x 4 B + Adam 2 x {trained:,} x 4 B "
        f"+ activations {tokens:,} tokens x {facts.hidden_size} x {kept} x {width} B "
        f"+ logits 3 x {tokens:,} x {facts.vocab_size:,} x 4 B"
    )
    if zero_stage >= 1 and share > 1:
        text += f" (split over {share} processes as ZeRO {zero_stage} does)"
    return weights + gradients + moments + activations + logits, text
