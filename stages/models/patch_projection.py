"""Patches to vectors as the matrix product that it is.

transformers writes the first layer of a Qwen-VL tower as a convolution whose stride is its kernel, over patches that are cut out
already: each patch meets the kernel once, and a product does the same faster (`benchmarks/written_out.py` measures it).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def project_by_product(tower: nn.Module) -> bool:
    """Let `tower.patch_embed` multiply; False when it is of another kind and stays as it is."""
    embed = getattr(tower, "patch_embed", None)
    if embed is None or not _is_product(getattr(embed, "proj", None)):
        return False
    embed.forward = MethodType(_forward, embed)
    return True


def _is_product(layer: Any) -> bool:
    """A plain convolution whose windows neither overlap nor leave gaps. An adapter around it is none."""
    return (
        type(layer) is nn.Conv3d
        and layer.stride == layer.kernel_size
        and not any(layer.padding)
        and layer.groups == 1
        and set(layer.dilation) == {1}
    )


def _forward(self: Any, hidden_states: Tensor) -> Tensor:
    """[patches, channels x frames x height x width] (or any shape with as many values) -> [patches, width of the tower]."""
    layer = self.proj
    if not _is_product(layer):
        return type(self).forward(self, hidden_states)
    weight = layer.weight.flatten(1)
    return functional.linear(hidden_states.to(weight.dtype).reshape(-1, weight.shape[1]), weight, layer.bias)
