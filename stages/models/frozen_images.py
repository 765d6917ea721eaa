"""Keep what a frozen vision tower makes of an image: the groups, epochs and updates of a stage then read it again.

Each image is computed by itself, so that its features do not depend on what else is in the batch, or on what a resumed run has
computed already. Nothing is kept while any weight of the tower learns, or while the weights lie in parts on several processes: a
process that skips the tower would leave the others waiting. Measured by `benchmarks/vision.py`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from factory.stages.models.repeated import OUTPUTS

LIMIT_BYTES = 512 << 20
"""Host memory for features; the ones read longest ago go first."""


def keep_frozen_images(tower: nn.Module, limit_bytes: int = LIMIT_BYTES) -> None:
    """Make a Qwen-VL vision tower compute each image once while it is frozen. Outputs are as without it, up to rounding."""
    tower.forward = FrozenImages(tower, limit_bytes).forward  # type: ignore[method-assign]


class FrozenImages:
    """The tower's forward with its memory. A copy of the model computes anew: its weights are others, and may change."""

    def __init__(self, tower: nn.Module, limit_bytes: int) -> None:
        self.tower, self.compute, self.limit_bytes = tower, tower.forward, limit_bytes
        self.known: OrderedDict[bytes, Any] = OrderedDict()
        self.num_bytes = 0
        self.weights: tuple[int, ...] = ()

    def forward(self, hidden_states: Tensor, grid_thw: Tensor, **kwargs: Any) -> Any:
        """Outputs for all images.

        Args:
            hidden_states: [num_patches, patch_dim], the pixels of all images one after the other.
            grid_thw: [n_images, 3] in patches.
        """
        asks_more = any(value for name, value in kwargs.items() if name != "return_dict")
        if asks_more or hidden_states.requires_grad or not self._is_still():
            return self.compute(hidden_states, grid_thw=grid_thw, **kwargs)
        images = hidden_states.split(grid_thw.prod(dim=1).tolist())
        found = [self._of(image, grid, kwargs) for image, grid in zip(images, grid_thw, strict=True)]
        return type(found[0])(**{name: _joined([one[name] for one in found], hidden_states.device) for name in found[0]})

    def _is_still(self) -> bool:
        """True when the weights are frozen, whole, and those that made what is known; else what is known is forgotten."""
        weights = list(self.tower.parameters())
        if any(weight.requires_grad or _is_in_parts(weight) for weight in weights):
            self._forget(())
            return False
        versions = tuple(number for weight in weights for number in (weight.data_ptr(), weight._version))
        if versions != self.weights:
            self._forget(versions)
        return True

    def _forget(self, weights: tuple[int, ...]) -> None:
        self.known.clear()
        self.num_bytes, self.weights = 0, weights

    def _of(self, image: Tensor, grid: Tensor, kwargs: dict[str, Any]) -> Any:
        """The outputs of one image, in host memory."""
        key = hashlib.blake2b(image.detach().cpu().contiguous().view(torch.uint8).numpy(), digest_size=20)
        key.update(repr((grid.tolist(), image.dtype)).encode())
        name = key.digest()
        if name in self.known:
            self.known.move_to_end(name)
            return self.known[name]
        with torch.no_grad():
            output = self.compute(image, grid_thw=grid[None], **kwargs)
        return self._keep(name, output)

    def _keep(self, name: bytes, output: Any) -> Any:
        kept = type(output)(
            **{part: _mapped(value, lambda tensor: tensor.cpu()) for part, value in output.items() if part in OUTPUTS}
        )
        self.known[name] = kept
        self.num_bytes += _size(kept)
        while self.num_bytes > self.limit_bytes:
            self.num_bytes -= _size(self.known.popitem(last=False)[1])
        return kept


def _is_in_parts(weight: Tensor) -> bool:
    """Sharded by DeepSpeed ZeRO-3 (`ds_id`) or FSDP2 (a DTensor)."""
    return hasattr(weight, "ds_id") or hasattr(weight, "device_mesh")


def _mapped(value: Any, change: Any) -> Any:
    return [change(part) for part in value] if isinstance(value, list) else change(value)


def _joined(values: list[Any], device: torch.device) -> Any:
    """The same output of several images, one after the other."""
    if isinstance(values[0], list):
        return [_joined(list(parts), device) for parts in zip(*values, strict=True)]
    return torch.cat([value.to(device) for value in values])


def _size(output: Any) -> int:
    parts = [part for value in output.values() for part in (value if isinstance(value, list) else [value])]
    return sum(part.numel() * part.element_size() for part in parts)
