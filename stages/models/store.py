"""Write a model in memory to a folder that `load` (and plain transformers) reads: full weights, or an adapter with its chain."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.errors import ModelError
from factory.stages.models.loaded import LoadedModel

SIDECARS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model",
    "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "processor_config.json",
    "generation_config.json", "dna_tokenizer.json",
)  # fmt: skip
"""Files that travel with the weights unchanged."""


def save(loaded: LoadedModel, out_dir: Path, *, weights: Mapping[str, Any] | None = None) -> Path:
    """Write `loaded` to `out_dir`: full weights, or the adapter with its `adapter_chain.json`.

    `weights`: the state dict to write where the model's own is split over processes.

    Not atomic: write under a temporary name and rename.
    Raises ModelError when the disk refuses, or the model has experts.
    """
    if loaded.experts is not None:
        raise ModelError(
            f"{loaded.source}: its experts ({', '.join(loaded.experts.names)}) answer in turn and cannot be merged into one set of "
            "weights. Serve it as it is (`factory serve --engine transformers`), or export the model that adapter_chain.json names."
        )
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        extra: dict[str, Any] = {"save_embedding_layers": False} if loaded.adapter else {}
        if weights is not None:
            extra["state_dict"] = dict(weights)
        loaded.model.save_pretrained(str(out_dir), **extra)
        copy_sidecars(loaded.source, out_dir)
        if loaded.adapter:
            # peft writes a model card that names this machine's folders; the factory writes its own.
            (out_dir / "README.md").unlink(missing_ok=True)
            point_to_base(out_dir, loaded.base)
            _write_chain(out_dir, loaded.base, loaded.earlier)
    except OSError as err:
        raise ModelError(
            f"{out_dir}: the model cannot be saved: {err}. Free disk space or mend the permissions, then run again."
        ) from err
    return out_dir


def copy_sidecars(source: Path, out_dir: Path) -> None:
    """Copy tokenizer, template and processor files byte for byte."""
    for name in SIDECARS:
        if (source / name).is_file() and source.resolve() != out_dir.resolve():
            shutil.copyfile(source / name, out_dir / name)


def _write_chain(out_dir: Path, base: Path, earlier: tuple[Path, ...]) -> None:
    """Paths are relative, so that a whole tree can be moved; `written_at` helps when only this folder was."""
    here = out_dir.resolve()
    chain = {
        "base": os.path.relpath(base.resolve(), here),
        "adapters": [os.path.relpath(folder.resolve(), here) for folder in earlier],
        "written_at": str(here),
    }
    (out_dir / "adapter_chain.json").write_text(json.dumps(chain, indent=2) + "\n", encoding="utf-8")


def point_to_base(out_dir: Path, base: Path) -> None:
    """Name the base in adapter_config.json, where peft looks for it; its sets in one order, so that equal adapters are equal files."""
    path = out_dir / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    config["base_model_name_or_path"] = str(base.resolve())
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
