"""Pieces of a model that we compute ourselves, one by one beside the plain way: norms, patches, attention over images, head.

    python benchmarks/written_out.py [--quick] [--json FILE] [--seed N]

Forward and backward together, float32, one thread. First: the same output (norms: to the bit) and the same gradients from the same
start. Norms, projections and attention are set against transformers' modules, the head against its whole logits and torch's cross entropy.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, cpu_seconds, main, versions  # noqa: E402

NORMS = ((1785, 128), (1785, 4, 32), (1785, 1024))
"""[tokens, width] of a small model, [tokens, heads, width of a head] of its queries, [tokens, width] of a 0.6B model."""
PATCHES = (2048, 192, 128)
"""Patches, values in each, width of the tower."""
IMAGES = ((32, 64, 128), (4, 1024, 128))
"""Images, patches of each, width of the tower."""
HEADS = ((6000, 128, 1024), (6000, 256, 32768))
"""Learned tokens, width, vocabulary."""
LEAST_S = 0.05
"""A measurement repeats its call until it has taken so long: one call of a norm is too short for the clock."""


def side(piece: str, shape: list[int], seed: int, repeats: int) -> list[list[float]]:
    """[ours, theirs], CPU ms of one call. Both in one process and by turns, since a call may take milliseconds."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    theirs, x = {"norm": _norm, "projection of patches": _projection, "attention over images": _attention, "head": _head}[piece](
        shape
    )
    ours = _hastened(piece, theirs)
    pull = torch.randn_like(theirs(x))
    _must_agree(piece, ours, theirs, x, pull)

    def call(module: Any) -> None:
        module.zero_grad()
        module(x.detach().requires_grad_()).backward(pull)

    calls = max(1, round(LEAST_S / cpu_seconds(lambda: call(theirs))))

    def ms(module: Any) -> float:
        return 1000 * cpu_seconds(lambda: [call(module) for _ in range(calls)]) / calls

    found = [(ms(ours), ms(theirs)) for _ in range(WARM_UPS + repeats)][WARM_UPS:]
    return [list(values) for values in zip(*found, strict=True)]


def _norm(shape: list[int]) -> tuple[Any, Any]:
    import torch
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    norm = Qwen3RMSNorm(shape[-1])
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    return norm, torch.randn(shape)


def _projection(shape: list[int]) -> tuple[Any, Any]:
    import torch
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchEmbed

    count, values, width = shape
    side = int((values // 3) ** 0.5)
    config = SimpleNamespace(patch_size=side, temporal_patch_size=1, in_channels=3, hidden_size=width)
    return Qwen3VLVisionPatchEmbed(config), torch.randn(count, values)


def _attention(shape: list[int]) -> tuple[Any, Any]:
    import torch
    from torch import nn
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention

    count, size, width = shape
    angles = torch.randn(count * size, width // 8).repeat(1, 2)

    class Attention(nn.Module):
        """Images of one size, four heads."""

        def __init__(self) -> None:
            super().__init__()
            config = Qwen3VLVisionConfig(hidden_size=width, num_heads=4)
            config._attn_implementation = "sdpa"
            self.attention = Qwen3VLVisionAttention(config)

        def forward(self, hidden: Any) -> Any:
            borders = torch.arange(0, count * size + 1, size, dtype=torch.int32)
            return self.attention(hidden, borders, position_embeddings=(angles.cos(), angles.sin()))

    return Attention(), torch.randn(count * size, width)


def _head(shape: list[int]) -> tuple[Any, Any]:
    import torch
    from torch import nn

    count, width, vocabulary = shape

    class Head(nn.Linear):
        """The sum of -log p of the targets from whole logits."""

        def forward(self, hidden: Any) -> Any:
            return nn.functional.cross_entropy(super().forward(hidden), self.targets, reduction="sum").reshape(1)

    head = Head(width, vocabulary, bias=False)
    head.targets = torch.randint(0, vocabulary, (count,))
    return head, torch.randn(count, width)


def _hastened(piece: str, theirs: Any) -> Any:
    if piece == "head":
        return _summed(copy.deepcopy(theirs))
    from factory.stages.models.patch_projection import project_by_product
    from factory.stages.models.rms_norm import hasten_norms
    from factory.stages.models.tower_attention import attend_by_size

    ours = copy.deepcopy(theirs)
    hasten: dict[str, Callable[[Any], int]] = {
        "norm": hasten_norms,
        "attention over images": attend_by_size,
        "projection of patches": lambda embed: project_by_product(SimpleNamespace(patch_embed=embed)),
    }
    if not hasten[piece](ours):
        raise RuntimeError(f"transformers' {type(theirs).__name__} is another one than we know: ours would be theirs")
    return ours


def _summed(head: Any) -> Any:
    from torch import nn

    from factory.stages.models.head_nll import summing

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, hidden: Any) -> Any:
            with summing(self.head, self.head.targets):
                return self.head(hidden)

    return Summed()


def _must_agree(piece: str, ours: Any, theirs: Any, x: Any, pull: Any) -> None:
    import torch

    found = []
    for module in (ours, theirs):
        given = x.clone().requires_grad_()
        y = module(given)
        y.backward(pull)
        found.append((y.detach(), given.grad, *(parameter.grad for parameter in module.parameters())))
    if piece == "norm" and not torch.equal(found[0][0], found[1][0]):
        raise RuntimeError(f"{piece}: outputs differ")
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def rows(quick: bool, seed: int) -> list[Row]:
    """One row for each shape."""
    found = versions(["transformers", "torch"])
    made = []
    heads = HEADS[:1] if quick else HEADS
    pieces = [*(("norm", shape) for shape in NORMS), ("projection of patches", PATCHES)]
    pieces += [*(("attention over images", shape) for shape in IMAGES), *(("head", shape) for shape in heads)]
    for piece, shape in pieces:
        against = f"torch {found['torch']}, whole logits" if piece == "head" else f"transformers {found['transformers']}"
        ours, theirs = alone(
            "written_out:side", {"piece": piece, "shape": list(shape), "seed": seed, "repeats": 2 if quick else 2 * REPEATS}
        )
        made.append(compared(f"{piece} {list(shape)}", against, "", ours, theirs, "CPU ms"))
    return made


if __name__ == "__main__":
    main(rows, __doc__)
