"""Plain average of weights: long2short (Kimi k1.5, arXiv 2501.12599; techniques B12.3) and averaged checkpoints (Intern-S1, B1.10).

    average[t] = sum over sources s of share_s * weights_s[t],   share_s = weight_s / sum of weights

Summed in float64, tensor by tensor, so memory does not grow with the number of sources; then rounded once to the widest of the
sources' number formats. Equal sources (float32 or narrower) give back their weights bit for bit.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from factory.contracts import Outputs, RunContext
from factory.errors import ModelError
from factory.stages.merge.config import MergeConfig
from factory.stages.merge.sources import (
    Source,
    config_difference,
    copy_beside,
    full_weights,
    refuse_other_tokenizer,
    sources_of,
    weight_files,
)

log = logging.getLogger(__name__)


def average_stages(config: MergeConfig, ctx: RunContext) -> Outputs:
    """Average the models in `config.reads` into `model`, and tell in `merge.json` how far each lies from the average.

    Raises ModelError: models that are not one architecture with one tokenizer, missing or damaged weights, weights not finite.
    """
    sources, shares = sources_of(config, ctx), config.shares()
    scratch = ctx.workdir / "scratch"
    try:
        report = average(sources, shares, ctx.workdir / "model", scratch=scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    (ctx.workdir / "merge.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    ctx.log(step=len(sources), total=len(sources), tensors=report["tensors"])
    return Outputs(model="model", metrics=report, files=("model", "merge.json"))


def average(sources: Sequence[Source], shares: Sequence[float], out_dir: Path, *, scratch: Path) -> dict[str, Any]:
    """Write the average of `sources` to `out_dir`.

    Args:
        shares: one per source, summing to 1.
        scratch: where adapters are merged first; the caller removes it.

    Returns:
        how, shares, tensors, values, and per source `distance`: ||source - average|| / ||average|| over all weights.
    """
    refuse_other_tokenizer(sources)
    sources = _made_alike([full_weights(source, scratch) if source.is_adapter else source for source in sources], scratch)
    copy_beside(sources[0], out_dir)
    tally = _Tally(len(sources))
    with ExitStack() as stack:
        readers = [_Reader(source, stack) for source in sources]
        for file, names in weight_files(sources[0].folder).items():
            save_file({name: _one(name, readers, shares, tally) for name in names}, out_dir / file, metadata={"format": "pt"})
    _write_index(out_dir)
    if len(tally.formats) > 1:
        _set_format(out_dir / "config.json", reduce(torch.promote_types, tally.formats))
    distance = {s.name: math.sqrt(d / tally.norm) if tally.norm else 0.0 for s, d in zip(sources, tally.apart, strict=True)}
    return {
        "how": "average", "shares": {source.name: share for source, share in zip(sources, shares, strict=True)},
        "tensors": tally.tensors, "values": tally.values, "distance": distance,
    }  # fmt: skip


def weighted_mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """float64 sum of share x tensor, all of one shape. Shares sum to 1."""
    total = torch.zeros(tensors[0].shape, dtype=torch.float64)
    for tensor, share in zip(tensors, shares, strict=True):
        total.add_(tensor.double(), alpha=share)
    return total


class _Reader:
    """The tensors of one source by name, read from disk when asked for."""

    def __init__(self, source: Source, stack: ExitStack) -> None:
        self.source = source
        self._where: dict[str, Any] = {}
        for file, names in weight_files(source.folder).items():
            opened = stack.enter_context(safe_open(str(source.folder / file), framework="pt"))
            self._where |= dict.fromkeys(names, opened)

    def __getitem__(self, name: str) -> Tensor:
        return self._where[name].get_tensor(name)


@dataclass
class _Tally:
    """What was averaged so far."""

    num_sources: int
    tensors: int = 0
    values: int = 0
    norm: float = 0.0
    """Squared length of the average."""

    def __post_init__(self) -> None:
        self.apart = [0.0] * self.num_sources
        """Squared distance of each source from the average."""
        self.formats: set[torch.dtype] = set()


def _one(name: str, readers: Sequence[_Reader], shares: Sequence[float], tally: _Tally) -> Tensor:
    tensors = [reader[name] for reader in readers]
    tally.tensors += 1
    tally.values += tensors[0].numel()
    if not all(tensor.is_floating_point() for tensor in tensors):
        if any(not torch.equal(tensors[0], tensor) for tensor in tensors[1:]):
            raise ModelError(
                f"tensor {name} holds whole numbers that differ between the models; they have no average. Merge models of one base."
            )
        return tensors[0]
    for reader, tensor in zip(readers, tensors, strict=True):
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{reader.source.name}: tensor {name} holds values that are not finite. Leave this stage out.")
    total = weighted_mean(tensors, shares)
    tally.norm += float(total.square().sum())
    for index, tensor in enumerate(tensors):
        tally.apart[index] += float((tensor.double() - total).square().sum())
    formats = {tensor.dtype for tensor in tensors}
    tally.formats |= formats
    return total.to(reduce(torch.promote_types, formats))


def _made_alike(sources: Sequence[Source], scratch: Path) -> list[Source]:
    """Sources whose files agree in settings, tensor names and shapes.

    Files of one model may differ in form (tied weights stored twice, an older config): then all are written anew by transformers.
    Raises ModelError when they still differ.
    """
    if not _difference(sources):
        return list(sources)
    log.info("the files differ in form (%s); they are written anew before averaging", _difference(sources))
    rewritten = [full_weights(source, scratch / "anew") for source in sources]
    left = _difference(rewritten)
    if left:
        raise ModelError(f"these models cannot be averaged: {left}. Merge models that come from the same base.")
    return rewritten


def _difference(sources: Sequence[Source]) -> str:
    """In what the files of the sources differ; empty when they agree. Raises ModelError for shapes: no rewriting mends those."""
    first, ours = sources[0], _shapes(sources[0].folder)
    for other in sources[1:]:
        theirs = _shapes(other.folder)
        for name in sorted(ours.keys() & theirs.keys()):
            if ours[name] != theirs[name]:
                raise ModelError(
                    f"these models cannot be averaged: tensor {name} is {ours[name]} in {first.name} and {theirs[name]} in "
                    f"{other.name}. Merge models that come from the same base."
                )
        lonely = sorted(ours.keys() ^ theirs.keys())
        if lonely:
            return f"tensor {lonely[0]} is only in {(first if lonely[0] in ours else other).name}"
        if apart := config_difference(first, other):
            return apart
    return ""


def _shapes(folder: Path) -> Mapping[str, list[int]]:
    found = {}
    for file, names in weight_files(folder).items():
        with safe_open(str(folder / file), framework="pt") as tensors:
            found |= {name: list(tensors.get_slice(name).get_shape()) for name in names}
    return found


def _write_index(folder: Path) -> None:
    """The index that transformers needs when the weights lie in several files."""
    files = sorted(path for path in folder.glob("*.safetensors"))
    if [path.name for path in files] == ["model.safetensors"]:
        return
    where, num_bytes = {}, 0
    for path in files:
        with safe_open(str(path), framework="pt") as tensors:
            where |= dict.fromkeys(tensors.keys(), path.name)
        num_bytes += path.stat().st_size
    index = {"metadata": {"total_size": num_bytes}, "weight_map": dict(sorted(where.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _set_format(path: Path, dtype: torch.dtype) -> None:
    """Name the number format in config.json, which was copied from a source that may be narrower."""

    def renamed(section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        word = str(dtype).removeprefix("torch.")
        return {key: word if key in ("dtype", "torch_dtype") else renamed(value) for key, value in section.items()}

    config = renamed(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
