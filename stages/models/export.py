"""Models for others: one merged transformers folder, or an adapter that plain peft loads."""

from __future__ import annotations

import shutil
from pathlib import Path

from factory.stages.models.experts import FILE as EXPERTS
from factory.stages.models.facts import read_chain
from factory.stages.models.load import load
from factory.stages.models.store import copy_sidecars, point_to_base, save

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def merge(model_dir: Path, out_dir: Path) -> Path:
    """Merge an adapter folder (with all earlier adapters) into one full-weights folder, in the base's number format."""
    return save(load(model_dir, precision="auto", device="cpu"), out_dir)


def export(model_dir: Path, out_dir: Path, merged: bool = True, *, final_dir: Path | None = None) -> Path:
    """A folder for others: `merged` loads in plain transformers; otherwise an adapter that loads in plain peft.

    An unmerged export names the original base; when earlier adapters lie between, the base with them merged is written
    to `out_dir/base` and named instead (as it will be called once the caller has renamed `out_dir` to `final_dir`).
    A full-weights folder has no adapter to keep apart: it is exported as it is.
    """
    if merged or (model_dir / EXPERTS).is_file() or not (model_dir / "adapter_chain.json").is_file():
        return merge(model_dir, out_dir)
    base, earlier = read_chain(model_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in _ADAPTER_FILES:
        shutil.copyfile(model_dir / name, out_dir / name)
    copy_sidecars(model_dir, out_dir)
    if earlier:
        merge(earlier[-1], out_dir / "base")
        base = (final_dir or out_dir) / "base"
    point_to_base(out_dir, base)
    return out_dir
