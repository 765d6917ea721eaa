"""Images of a vision-language model: from encoded bytes to patches, with or without torchvision.

With torchvision the folder's own image processor is used (what AutoProcessor uses); without it, the PIL backend with the
same settings.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from factory.contracts import Media
from factory.errors import DataError, ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

_KNOWN = (
    "Qwen2VLImageProcessor",
    "Qwen2VLImageProcessorFast",
    "Qwen2VLImageProcessorPil",
    "Qwen3VLImageProcessor",
    "Qwen2_5_VLImageProcessor",
)
_SETTINGS = (
    "do_resize", "resample", "size", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb",
    "patch_size", "temporal_patch_size", "merge_size", "min_pixels", "max_pixels",
)  # fmt: skip


def read_settings(folder: Path) -> Mapping[str, Any]:
    """The image processor's settings, from preprocessor_config.json or the `image_processor` part of processor_config.json.

    Raises ModelError when neither is there or the processor is none that the factory knows.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as err:
            raise ModelError(f"{path}: is not valid JSON: {err}. Copy the model folder again.") from err
        settings = settings.get("image_processor", settings)
        if "patch_size" in settings:
            kind = settings.get("image_processor_type", _KNOWN[0])
            if kind not in _KNOWN:
                raise ModelError(
                    f"{path}: image_processor_type is {kind!r}; the factory knows {', '.join(_KNOWN)}. Use a Qwen-VL base."
                )
            return settings
    raise ModelError(
        f"{folder}: a vision-language model without preprocessor_config.json. Copy it from the original model folder."
    )


def load_image_processor(folder: Path) -> Any:
    """The image processor of a model folder: its own where torchvision is installed, else the PIL backend with equal settings."""
    settings = {key: value for key, value in read_settings(folder).items() if key in _SETTINGS and value is not None}
    if importlib.util.find_spec("torchvision") is not None:
        from transformers import Qwen2VLImageProcessor

        return Qwen2VLImageProcessor(**settings)
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(**settings)


def open_image(media: Media) -> Image:
    """Decode to RGB. Raises DataError naming the file when the bytes are no image."""
    from PIL import Image

    where = media.path or f"{len(media.read())} bytes in memory"
    try:
        with Image.open(io.BytesIO(media.read())) as image:
            return image.convert("RGB")
    except Exception as err:  # Pillow's formats each raise their own for damage, TypeError and SyntaxError among them
        raise DataError(f"{where}: is not a readable image: {err}. Mend or drop the row.") from err


def encode_images(processor: Any, media: Sequence[Media]) -> tuple[torch.Tensor, torch.Tensor]:
    """(pixels [num_patches, patch_dim] float32, grid [n_images, 3] int64 in patches) of one row's images, in order."""
    out = processor(images=[open_image(item) for item in media], return_tensors="pt")
    return out["pixel_values"].float(), out["image_grid_thw"].long()


def channel_statistics(media: Sequence[Media]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each colour channel over all pixels, in [0, 1]. Raises ModelError for no images."""
    import numpy as np

    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for item in media:
        pixels = np.asarray(open_image(item), dtype=np.float64).reshape(-1, 3) / 255.0
        count, total, squares = count + len(pixels), total + pixels.sum(axis=0), squares + (pixels**2).sum(axis=0)
    if count == 0:
        raise ModelError(
            "embedded-vl measures its pixel statistics on training images, and got none. "
            "Give the pack images, or use embedded-text."
        )
    mean = total / count
    # A constant channel would divide by zero; 1/255 is one step of an 8-bit image.
    std = np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0.0)), 1 / 255)
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in std]
