"""The models that a merge reads: where they lie, and whether they are the same model but for the values of their weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.contracts import RunContext
from factory.errors import ModelError, near_miss
from factory.stages.merge.config import MergeConfig
from factory.stages.models.facts import read_config
from factory.stages.models.store import copy_sidecars

_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Keys of config.json that say where a file came from or how it is stored, not what the model computes."""


@dataclass(frozen=True)
class Source:
    """One model to merge."""

    name: str
    """The stage's name, or `base`."""
    folder: Path
    """Its model folder: full weights, or an adapter with `adapter_chain.json`."""

    @property
    def is_adapter(self) -> bool:
        """True when the weights are a change to a base elsewhere."""
        return (self.folder / "adapter_chain.json").is_file()


def sources_of(config: MergeConfig, ctx: RunContext) -> list[Source]:
    """The sources in the order of `reads`.

    Raises ModelError: a stage whose folder was not handed over, or that left no model.
    """
    found = []
    for name in config.reads:
        if name not in ctx.inputs:
            raise ModelError(
                f"stages.{ctx.stage}.reads names '{name}', but its folder is not here.{near_miss(name, ctx.inputs)} "
                f"Here are: {', '.join(ctx.inputs) or 'none'}. Name earlier stages that make a model."
            )
        folder = ctx.inputs[name] / "model"
        if not folder.is_dir():
            raise ModelError(
                f"stages.{ctx.stage}.reads names '{name}', which left no model in {folder}. Name a stage that trains."
            )
        found.append(Source(name, folder))
    return found


def full_weights(source: Source, scratch: Path) -> Source:
    """The same model written anew with all adapters merged, in the base's number format and transformers' own tensor names."""
    from factory.stages.models.export import merge

    target = scratch / source.name
    shutil.rmtree(target, ignore_errors=True)
    return Source(source.name, merge(source.folder, target))


def config_difference(first: Source, other: Source) -> str:
    """The first key of config.json that makes them different models, with both values; empty when there is none."""
    ours, theirs = _lasting(read_config(first.folder)), _lasting(read_config(other.folder))
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            return f"config.json: {key} is {_short(ours.get(key))} in {first.name} and {_short(theirs.get(key))} in {other.name}"
    return ""


def refuse_other_tokenizer(sources: Sequence[Source]) -> None:
    """Averaging needs one meaning for each token. Raises ModelError naming the two stages and the file that differs."""
    first = sources[0]
    for other in sources[1:]:
        for name in ("tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja"):
            if _words_of(first.folder / name) != _words_of(other.folder / name):
                raise ModelError(
                    f"{first.name} and {other.name} differ in {name}: a token would mean one thing in one and another in the other. "
                    "Merge models that come from the same base."
                )


def copy_beside(source: Source, out_dir: Path) -> None:
    """Copy everything of a model folder but its weights: settings, tokenizer, template, image processor."""
    out_dir.mkdir(parents=True, exist_ok=True)
    copy_sidecars(source.folder, out_dir)
    shutil.copyfile(source.folder / "config.json", out_dir / "config.json")


def weight_files(folder: Path) -> dict[str, list[str]]:
    """File -> names of its tensors, as transformers would read the folder: `model.safetensors`, else the index, else all files.

    Raises ModelError: no safetensors, a damaged file, or one that the index names and is not there.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: has no *.safetensors weights, so it cannot be merged. Build the stage that wrote it again.")
    found = {}
    for file in files:
        try:
            with safe_open(str(folder / file), framework="pt") as tensors:
                found[file] = sorted(tensors.keys())
        except (OSError, SafetensorError) as err:
            raise ModelError(f"{folder / file}: cannot be read: {err}. Build the stage that wrote it again.") from err
    return found


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without volatile keys, nested sections joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": found for inner, found in _lasting(value).items()}
        elif key not in _VOLATILE:
            flat[key] = value
    return flat


def _words_of(path: Path) -> Any:
    """What a tokenizer file says: of tokenizer.json the vocabulary, merges and added tokens; of others the text."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if path.name != "tokenizer.json":
        return text
    content = json.loads(text)
    return content.get("model"), content.get("added_tokens")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
