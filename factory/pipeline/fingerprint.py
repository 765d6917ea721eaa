"""What decides whether a finished step may be kept: a hash over everything that could change its outputs.

A fingerprint covers: the step's kind and the source it runs, its resolved settings with seed and precision, the fingerprint of
the step it starts from, the pack's files, the user's data, and the versions of the libraries that do the arithmetic.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import factory
from factory.contracts import Stage
from factory.errors import DataError
from factory.plugins import find_pack, member_names, pack_folder, source_folder
from factory.registry.files import sha256_file, sha256_json, walk

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")
HASHED_BYTES = 64 << 20
"""Of the user's data and of a base folder, files are hashed (smallest first) up to this total; others count by size and time."""
UNREAD = {
    "eval": ("bootstrap",),
    "pool": ("workers",),
    "launch": ("launcher", "processes", "deepspeed", "nvme_path", "device_gib", "collective_timeout_s", "fork", "vllm"),
}
"""Settings that no output depends on: intervals are computed after the steps, and a verdict does not depend on its worker, nor an
output on who started the processes. Of how many they were it depends only by rounding (tests/distributed), and a job that is queued
again on more or fewer machines must not lose what it has finished."""
_SHARED_SOURCE = ("contracts.py", "rewards", "data", "packs")


def library_versions() -> dict[str, str]:
    """Installed versions of LIBRARIES, read without importing them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hash_source(folder: Path, *, recursive: bool = True) -> str:
    """Hash of a folder of source: paths and content of every file but byte code."""
    names = [name for name in walk(folder) if not name.endswith(".pyc") and (recursive or "/" not in name)]
    return sha256_json([[name, sha256_file(folder / name)] for name in names])


@cache
def shared_source() -> str:
    """Hash of what every stage runs on: contracts, rewards, readers, chat templates and the engine under the stages."""
    root = Path(factory.__file__).parent
    parts = {name: hash_source(root / name) if (root / name).is_dir() else sha256_file(root / name) for name in _SHARED_SOURCE}
    parts["stages"] = sha256_json([sha256_file(path) for path in sorted((root / "stages").glob("*.py"))])
    parts["models"] = hash_source(root / "stages" / "models")
    parts["chat"] = hash_source(root / "templates" / "chat")
    return sha256_json(parts)


def stage_source(stage: Stage) -> str:
    """Hash of the folder that holds a stage kind, built in or installed."""
    return hash_source(Path(inspect.getfile(type(stage))).parent)


def plugin_sources(stage: Stage, config: Any) -> dict[str, str]:
    """Hashes of the folders of other packages' code that the stage would run, as far as its kind offers `plugins(config)`."""
    offered = getattr(stage, "plugins", None)
    folders = {source_folder(plugin) for plugin in offered(config)} if offered else set()
    return {folder.name: hash_source(folder) for folder in sorted(folders)}


def pack_source(domain: str) -> str:
    """Hash of a domain's pack, or of all of its packs."""
    folders = {name: hash_source(pack_folder(find_pack(name))) for name in member_names(domain)}
    return next(iter(folders.values())) if len(folders) == 1 else sha256_json(list(folders.items()))


def files_identity(paths: Sequence[str | Path], *, online: bool = False) -> dict[str, str]:
    """Path -> `sha256:…`, or `size+mtime:…` for what lies above HASHED_BYTES in total. Folders stand for all their files.

    With `online`, a name that is no path is a hub data set and counts by its name.

    Raises:
        DataError: a path does not exist.
    """
    found: list[tuple[int, str, Path]] = []
    hub: dict[str, str] = {}
    for given in paths:
        path = Path(given).expanduser()
        if not path.exists() and online:
            hub[str(given)] = "hub"
            continue
        if not path.exists():
            raise DataError(f"{given}: no such file or folder. Check data.paths (--data).")
        inside = [path] if path.is_file() else [path / name for name in walk(path)]
        found += [
            (file.stat().st_size, str(file if path.is_file() else Path(given) / file.relative_to(path)), file) for file in inside
        ]
    identity, hashed = {}, 0
    for size, name, file in sorted(found, key=lambda row: row[:2]):
        hashed += size
        identity[name] = (
            f"sha256:{sha256_file(file)}" if hashed <= HASHED_BYTES else f"size+mtime:{size}:{file.stat().st_mtime_ns}"
        )
    return dict(sorted((hub | identity).items()))


def named_paths(config: Mapping[str, Any]) -> list[str]:
    """Files that a stage's own settings name: values of the keys `path`, `paths`, `*_path` and `*_paths`, at any depth."""
    found: list[str] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            found += named_paths(value)
        elif key.split("_")[-1] in ("path", "paths") and value:
            found += [value] if isinstance(value, str) else [str(item) for item in value]
    return found


def settings_of(build: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The sections of the build's config that a step of this role is given, and hence depends on.

    A training step is not shown `eval`: measuring more samples must not train again. No step is shown the other stages.
    """
    left_out = {
        "stages",
        "recipe",
        "online",
        "domain",
        "intended_use",
        "licence_override",
        *(() if role == "eval" else ("eval",)),
    }
    return {key: value for key, value in build.items() if key not in left_out}


def without_unread(build: Mapping[str, Any]) -> dict[str, Any]:
    """The settings less those of UNREAD."""
    shown = dict(build)
    for section, names in UNREAD.items():
        if section in shown:
            shown[section] = {key: value for key, value in shown[section].items() if key not in names}
    return shown


def identity_of_settings(build: Mapping[str, Any], role: str) -> dict[str, Any]:
    """`settings_of` without what cannot change an output (and without data paths, whose content counts instead)."""
    shown = without_unread(settings_of(build, role))
    if "data" in shown:
        shown["data"] = {key: value for key, value in shown["data"].items() if key not in ("paths", "licence")}
    return {key: value for key, value in shown.items() if key not in ("base", "revision")}


def changed_parts(old: Mapping[str, Any], new: Mapping[str, Any], key: str = "") -> list[str]:
    """Dotted names of the parts in which two fingerprints' ingredients differ."""
    found = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        label = f"{key}.{name}" if key else name
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += changed_parts(a, b, label)
        elif a != b:
            found.append(label)
    return found
