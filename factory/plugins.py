"""Find packs and stage kinds by name: built-in folders and installed entry points become the same kind of entry.

Only the asked-for pack is imported. Built-in packs have no privilege.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from factory.contracts import CONTRACT, DomainPack, Manifest, Stage
from factory.errors import PluginError, near_miss

PACK_GROUP = "factory.domain_packs"
STAGE_GROUP = "factory.stage_kinds"


@dataclass(frozen=True)
class Entry:
    """One pack or stage kind that could be imported."""

    name: str
    target: str
    """`package.module:ATTRIBUTE`."""
    origin: str
    """`built-in`, or the distribution and version that supplies it."""

    def load(self) -> Any:
        """Import the target. Raises PluginError with the original exception chained."""
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as err:
            raise PluginError(
                f"'{self.name}' from {self.origin} is installed but broken: importing {self.target} raised "
                f"{type(err).__name__}: {err}. Mend or uninstall it."
            ) from err


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


def _built_in(package: str, marker: str, attribute: str) -> list[Entry]:
    root = Path(str(files(package)))
    return [
        Entry(path.parent.name, f"{package}.{path.parent.name}:{attribute}", "built-in")
        for path in sorted(root.glob(f"*/{marker}"))
    ]


def _find(package: str, marker: str, attribute: str, group: str) -> list[Entry]:
    installed = [Entry(point.name, point.value, _origin(point)) for point in entry_points(group=group)]
    return _built_in(package, marker, attribute) + installed


def pack_entries() -> list[Entry]:
    """All packs, built-in and installed. `FACTORY_PACKS=none` or a comma list limits them."""
    found = _find("factory.domains", "pack.yaml", "PACK", PACK_GROUP)
    wanted = os.environ.get("FACTORY_PACKS")
    if wanted is None:
        return found
    return [entry for entry in found if entry.name in wanted.split(",")]


def stage_entries() -> list[Entry]:
    """All stage kinds: folders of `factory.stages` that hold a `config.py`, and installed ones."""
    return _find("factory.stages", "config.py", "STAGE", STAGE_GROUP)


def _pick(name: str, entries: list[Entry], what: str, group: str) -> Entry:
    distribution, _, short = name.rpartition("/")
    hits = [e for e in entries if e.name == short and (not distribution or e.origin.split(" ")[0] == distribution)]
    if not hits:
        names = sorted({entry.name for entry in entries})
        raise PluginError(
            f"unknown {what} '{name}'.{near_miss(name, names)} Installed: {', '.join(names) or 'none'}. "
            f"A package adds one with the entry point group '{group}'."
        )
    if len(hits) > 1:
        raise PluginError(
            f"two {what}s are named '{name}': {' and '.join(e.origin for e in hits)}. "
            f"Uninstall one, or name it as DISTRIBUTION/{short}."
        )
    return hits[0]


def find_pack(name: str) -> Entry:
    """The entry of one pack. Raises PluginError (with a near miss) when unknown or ambiguous."""
    return _pick(name, pack_entries(), "domain pack", PACK_GROUP)


def pack_folder(entry: Entry) -> Path:
    """Folder of the pack's files, found without importing the pack's code where possible."""
    module = entry.target.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise PluginError(f"'{entry.name}' from {entry.origin}: module {module} cannot be found. Reinstall it.")
    return Path(spec.origin).parent


def read_manifest(folder: Path) -> Manifest:
    """Read and check `pack.yaml`. Raises PluginError naming the file, the key and the remedy."""
    path = folder / "pack.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as err:
        raise PluginError(f"{path}: cannot be read: {err}. A pack needs a valid pack.yaml.") from err
    if not isinstance(raw, Mapping):
        raise PluginError(f"{path}: must be a mapping of keys, got {type(raw).__name__}.")
    known = Manifest.__dataclass_fields__
    for key in raw:
        if key not in known:
            raise PluginError(f"{path}: unknown key '{key}'.{near_miss(str(key), known)}")
    missing = [k for k in ("name", "title", "version", "license", "intended_use", "not_for") if not raw.get(k)]
    if missing:
        raise PluginError(f"{path}: missing {', '.join(missing)}. Every pack states them.")
    if raw.get("contract", CONTRACT) != CONTRACT:
        raise PluginError(
            f"{path}: needs contract {raw['contract']}, this factory has {CONTRACT}. Install a matching version of either."
        )
    lists = {k: tuple(raw[k]) for k in ("provides", "data") if k in raw}
    return Manifest(**{**raw, **lists})


def load_pack(name: str) -> DomainPack:
    """Import one pack and return it. Raises PluginError: unknown, ambiguous, broken, or wrong contract."""
    entry = find_pack(name)
    read_manifest(pack_folder(entry))
    return entry.load()


@cache
def load_stage(kind: str) -> Stage:
    """Import one stage kind (light: no torch until it runs)."""
    return _pick(kind, stage_entries(), "stage kind", STAGE_GROUP).load()
