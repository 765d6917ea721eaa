"""Exact-resume checkpoints: a folder per checkpoint that is either whole or not there.

    checkpoints/step-00000050/state.json         the tree: numbers, strings, lists, mappings
                              tensors.safetensors  the tensors that the tree refers to
                              metrics.jsonl        a copy, as it was then
                              files.json           sha256 of every other file, so that a flipped bit is not trained on
                              engine/              only with DeepSpeed or FSDP2: weights and moments (engine_state.py)

A checkpoint is written under a hidden name, flushed to the disk, then renamed; older ones go after that.
A kill at any moment leaves either the previous or the new checkpoint, never a half of one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from factory.errors import RegistryError, TrainingError
from factory.registry.files import entries, read_json, write_atomic, write_json

log = logging.getLogger(__name__)
FORMAT = 1
STATE_FILE, TENSOR_FILE, ENGINE_FOLDER, FILES = "state.json", "tensors.safetensors", "engine", "files.json"
_NAME = re.compile(r"step-([0-9]{8,})")
_PREFIX, _UNFINISHED = "step-", ".unfinished-"


class Stateful(Protocol):
    """A piece whose state belongs in the checkpoint: a curriculum, a replay buffer, a data order."""

    def state_dict(self) -> Mapping[str, Any]:
        """JSON scalars, tensors, lists, tuples and mappings of them."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


def begin_checkpoint(root: Path, step: int) -> Path:
    """An empty hidden folder to write the checkpoint of `step` into (leftovers of a killed writer are removed)."""
    folder = root / f"{_UNFINISHED}{step:08d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a state tree as JSON plus safetensors. Tensors are copied to the CPU; bits are kept.

    Raises:
        TypeError: the tree holds something that is neither JSON, tensor, tuple, list nor mapping (a bug in a piece).
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _flatten(state, tensors)
    save_file(tensors, folder / TENSOR_FILE)
    (folder / STATE_FILE).write_text(json.dumps({"format": FORMAT, "tree": tree}), encoding="utf-8")


def finish_checkpoint(unfinished: Path, step: int) -> Path:
    """Flush the folder to the disk, give it its name, remove every other checkpoint; return the folder."""
    root = unfinished.parent
    write_json(unfinished / FILES, {file.path: file.sha256 for file in entries(unfinished)})
    for path in sorted(unfinished.rglob("*")):
        _fsync(path)
    _fsync(unfinished)
    final = root / f"{_PREFIX}{step:08d}"
    if not final.exists():  # else the step was run again: the states are equal, and one that is whole stays
        unfinished.rename(final)
        _fsync(root)
    for other in list(root.iterdir()):
        if other != final and other.name.startswith((_PREFIX, _UNFINISHED)):
            _discard(other)
    return final


def _discard(folder: Path) -> None:
    """Remove a checkpoint under a hidden name: a kill in the middle must not leave half of one under its own."""
    if folder.is_dir():
        hidden = folder.with_name(f"{_UNFINISHED}gone-{folder.name.lstrip('.')}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def newest_checkpoint(root: Path) -> tuple[int, Path] | None:
    """(steps done, folder) of the newest whole checkpoint, or None."""
    names = [(int(hit[1]), path) for path in root.glob(f"{_PREFIX}*") if (hit := _NAME.fullmatch(path.name)) and path.is_dir()]
    return max(names) if names else None


def keep_copy(path: Path, folder: Path) -> None:
    """Put a copy of a file that grows with the stage into its checkpoint; nothing when there is no such file."""
    if path.exists():
        shutil.copyfile(path, folder / path.name)


def take_copy(folder: Path, path: Path) -> None:
    """Put the file back as it was at the checkpoint, whatever became of it since."""
    if (folder / path.name).exists():
        write_atomic(path, (folder / path.name).read_bytes())


def damage(folder: Path) -> str:
    """What is wrong with the files of a checkpoint, and what to do; empty when they are those that were written."""
    remedy = f"Delete {folder} to train the stage from its start."
    try:
        known, found = read_json(folder / FILES), {file.path: file.sha256 for file in entries(folder, skip=(FILES,))}
    except RegistryError as err:
        return f"{folder}: the checkpoint cannot be read ({err}) {remedy}"
    if known == found:
        return ""
    known = known if isinstance(known, dict) else {FILES: "not a mapping"}
    changed = sorted(name for name in {*known, *found} if known.get(name) != found.get(name))
    return f"{folder}: the checkpoint is damaged: {', '.join(changed)} is not what was written. {remedy}"


def read_state(folder: Path) -> dict[str, Any]:
    """Inverse of `write_state`.

    Raises:
        TrainingError: a file is missing or damaged, or of another format; says what to delete.
    """
    try:
        content = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSOR_FILE)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
        return _unflatten(content["tree"], tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as err:
        raise TrainingError(
            f"{folder}: the checkpoint cannot be read ({err}). Delete that folder to train the stage from its start."
        ) from err


def _flatten(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON form of a tree: tensors, tuples and mappings become one-key mappings that name what they are."""
    if isinstance(node, torch.Tensor):
        name = f"t{len(tensors)}"
        # A copy: safetensors refuses views that share memory.
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(node, Mapping):
        return {"map": [[_flatten(key, tensors), _flatten(value, tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        items = [_flatten(item, tensors) for item in node]
        return {"tuple": items} if isinstance(node, tuple) else items
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"a checkpoint holds JSON values and tensors; got {type(node).__name__}: {node!r:.80}")


def _unflatten(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_unflatten(item, tensors) for item in node]
    if isinstance(node, dict):
        ((what, content),) = node.items()
        if what == "tensor":
            return tensors[content]
        if what == "tuple":
            return tuple(_unflatten(item, tensors) for item in content)
        return {_unflatten(key, tensors): _unflatten(value, tensors) for key, value in content}
    return node


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seed_everything(seed: int) -> None:
    """Seed python's, numpy's and torch's global generators (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """State of the global generators of python, numpy, torch and, where there is one, of each CUDA device."""
    name, keys, position, has_gauss, cached_gaussian = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached_gaussian)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Inverse of `rng_state`. CUDA states are set only when this machine has as many devices as the one that saved."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def state_of_rank(folder: Path, ranks: Sequence[Mapping[str, Any]], rank: int, world_size: int) -> Mapping[str, Any]:
    """What this process kept; with another number of processes, what the main one kept, which every piece may start from.

    Rows are dealt out anew in every step, so the run goes on with the same rows in the same order. Only generators that a rank
    beyond the saved ones owns start afresh.
    """
    if len(ranks) == world_size:
        return ranks[rank]
    log.warning("%s: made by %d processes, now there are %d; equal up to rounding", folder, len(ranks), world_size)
    return {**ranks[0], "rng": ranks[rank]["rng"] if rank < len(ranks) else None}


def check_fit(
    folder: Path, state: Mapping[str, Any], pieces: Collection[str], shapes: Mapping[str, tuple[int, ...]], *, is_split: bool
) -> None:
    """Refuse a checkpoint of another set-up.

    Args:
        pieces: names of what the stage will resume.
        shapes: of its trainable parameters by name.

    Raises:
        TrainingError: made with DeepSpeed or FSDP2 and now without (or the reverse), with other pieces, or for another model.
    """
    remedy = f"Run with the settings it was made with, or delete {folder} to train the stage from its start."
    if is_split == ("weights" in state):
        raise TrainingError(f"{folder}: made {'without' if is_split else 'with'} DeepSpeed or FSDP2. {remedy}")
    if set(state["ranks"][0]["pieces"]) != set(pieces):
        held = sorted(state["ranks"][0]["pieces"])
        raise TrainingError(f"{folder}: holds the pieces {held}, not {sorted(pieces)}. {remedy}")
    if not is_split and {name: tuple(weight.shape) for name, weight in state["weights"].items()} != dict(shapes):
        raise TrainingError(f"{folder}: made for a model with other trainable weights. {remedy}")
