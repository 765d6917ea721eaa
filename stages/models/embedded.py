"""The embedded bases: real transformers folders made from a seed and a pack's own words, with no download.

They prove that the pipeline learns; they are no specialists.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from factory.contracts import IMAGE, Media
from factory.errors import ModelError, near_miss
from factory.stages.models.chat import default_template
from factory.stages.models.dna.words import DNA_SPECIAL, SPAN
from factory.stages.models.images import channel_statistics
from factory.stages.models.shapes import EMBEDDED, EMBEDDED_VOCAB, TILE_PX
from factory.stages.models.tokenizer import train_tokenizer

_STATISTICS_IMAGES = 512
"""Images measured for the pixel statistics; more do not move the third digit."""


def make_embedded(kind: str, out_dir: Path, *, seed: int, texts: Iterable[str], images: Iterable[Media] = ()) -> Path:
    """Write an untrained embedded base to `out_dir`, bit for bit the same for the same arguments, and return the folder.

    Args:
        kind: `embedded-text`, `embedded-vl` or `embedded-dna`.
        seed: of the initial weights.
        texts: what the tokenizer is trained on (training split only).
        images: training images whose pixel mean and standard deviation the image processor will use; `embedded-vl` needs
            at least one.

    Raises:
        ModelError: unknown kind, or `embedded-vl` without images.
    """
    if kind not in EMBEDDED:
        raise ModelError(f"unknown embedded base '{kind}'.{near_miss(kind, EMBEDDED)} There are {' and '.join(EMBEDDED)}.")
    out_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(SPAN.sub(" ", text.replace(IMAGE, " ")) for text in texts)
    if kind == "embedded-dna":
        from factory.stages.models.dna.assemble import write_small_vocabulary

        tokenizer.add_special_tokens({"extra_special_tokens": list(DNA_SPECIAL)}, replace_extra_special_tokens=False)
        write_small_vocabulary(out_dir, EMBEDDED_VOCAB)
    tokenizer.chat_template = default_template()
    if kind == "embedded-vl":
        mean, std = channel_statistics(list(islice(images, _STATISTICS_IMAGES)))
        _write_image_settings(out_dir, mean, std)
        tokenizer.init_kwargs["processor_class"] = "Qwen3VLProcessor"
    tokenizer.save_pretrained(str(out_dir))
    _random_model(kind, seed, tokenizer).save_pretrained(str(out_dir))
    return out_dir


def _random_model(kind: str, seed: int, tokenizer: Any) -> Any:
    """The model with freshly drawn fp32 weights; the global random state is left as it was."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    token = tokenizer.convert_tokens_to_ids
    ends = {"eos_token_id": [token("<|im_end|>"), token("<|endoftext|>")], "pad_token_id": token("<|endoftext|>")}
    settings = copy.deepcopy(EMBEDDED[kind])
    settings.pop("model_type")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "embedded-text":
            model = Qwen3ForCausalLM(Qwen3Config(**settings, **ends))
        elif kind == "embedded-dna":
            from factory.stages.models.dna.assemble import small_model

            model = small_model(settings, ends)
        else:
            settings["text_config"] |= ends
            marks = {f"{name}_token_id": token(f"<|{word}|>") for name, word in _VISION_TOKENS.items()}
            model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**settings, **marks))
    model.generation_config.update(do_sample=False, **ends)
    return model


_VISION_TOKENS = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}


def _write_image_settings(out_dir: Path, mean: list[float], std: list[float]) -> None:
    """preprocessor_config.json (and the video one that AutoProcessor asks for): patch 8, no resizing of a 64 px tile."""
    vision = EMBEDDED["embedded-vl"]["vision_config"]
    shared = {
        "patch_size": vision["patch_size"], "temporal_patch_size": vision["temporal_patch_size"],
        "merge_size": vision["spatial_merge_size"], "do_resize": True, "resample": 3, "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True, "do_convert_rgb": True, "image_mean": mean, "image_std": std,
        "size": {"shortest_edge": TILE_PX**2 // 4, "longest_edge": TILE_PX**2},
    }  # fmt: skip
    image = {**shared, "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen3VLProcessor"}
    video = {**shared, "video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    for name, settings in (("preprocessor_config.json", image), ("video_preprocessor_config.json", video)):
        (out_dir / name).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
