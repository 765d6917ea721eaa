"""Find packs, stage kinds and other plugins by name: built-in folders and installed entry points become the same kind of entry.

Only what is asked for is imported; listing imports nothing. Built-in packs have no privilege. A name that no package may
have (`a,b`) stands for several packs at once: see `factory.packs.composed`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from factory.contracts import CONTRACT, DomainPack, Manifest, Stage
from factory.errors import BrokenPlugin, DuplicatePlugin, UnknownPlugin, near_miss
from factory.quick_yaml import read_yaml

PACK_GROUP = "factory.domain_packs"
STAGE_GROUP = "factory.stage_kinds"
PIECE_GROUP = "factory.rl_pieces"
"""RL pieces: `"slot.name" = "module:Class"`, the class decorated with `factory.stages.rl.pieces.piece.piece`."""
ENGINE_GROUP = "factory.rollout_engines"
"""Rollout engines: a function `(argument, learner, *, prompts_per_generation) -> RolloutEngine`; see `stages/rl/engines`."""
LAUNCHER_GROUP = "factory.launchers"
"""Launchers: a function `(module, arguments, processes) -> command`; see `factory/launch/launchers.py`."""
JUDGE_GROUP = "factory.judges"
"""Kinds of judge: a function `(JudgeSettings) -> Backend`; see `factory/rewards/judges/kinds.py`."""
GROUPS = {
    PACK_GROUP: "domain pack", STAGE_GROUP: "stage kind", PIECE_GROUP: "piece", ENGINE_GROUP: "rollout engine",
    LAUNCHER_GROUP: "launcher", JUDGE_GROUP: "kind of judge",
}  # fmt: skip
"""Entry point group -> what one of it is called."""
COMPOSER = "factory.packs.composed"
"""Module that makes one pack of several; reached by name, since it lies above this one."""


BUILT_IN = "built-in"
"""Origin of what comes with the factory."""


@dataclass(frozen=True)
class Entry:
    """One plugin that could be imported."""

    name: str
    target: str
    """`package.module:ATTRIBUTE`."""
    origin: str
    """BUILT_IN, or the distribution and version that supplies it."""

    def load(self) -> Any:
        """Import the target. Raises BrokenPlugin with the original exception chained."""
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as err:
            raise BrokenPlugin(
                f"'{self.name}' from {self.origin} is installed but broken: importing {self.target} raised "
                f"{type(err).__name__}: {err}. Mend or uninstall it."
            ) from err

    @property
    def distribution(self) -> str:
        """Name of the distribution, without its version."""
        return self.origin.split(" ")[0]


def _origin(point: EntryPoint) -> str:
    if point.dist is None:
        return "unknown distribution"
    # `dist.metadata` parses the whole file, the description with it, as e-mail; with 200 packs that is most of a listing's time.
    head = (point.dist.read_text("METADATA") or "").partition("\n\n")[0]
    about = dict(line.partition(": ")[::2] for line in head.splitlines() if line.startswith(("Name: ", "Version: ")))
    if len(about) < 2:
        about = {"Name": point.dist.metadata["Name"], "Version": point.dist.version}
    return f"{about['Name']} {about['Version']}"


def installed_entries(group: str) -> list[Entry]:
    """What installed packages offer in one entry point group; nothing is imported."""
    return [Entry(point.name, point.value, _origin(point)) for point in _installed(_search_path()).select(group=group)]


def _search_path() -> tuple[tuple[str, int], ...]:
    """Where packages may be installed, with the time of the last change there."""
    return tuple((place, os.stat(place).st_mtime_ns) for place in sys.path if os.path.isdir(place))


@lru_cache(maxsize=1)
def _installed(search_path: tuple[tuple[str, int], ...]) -> EntryPoints:
    """All entry points; read once, because a plan asks a dozen times and every reading opens each package's files."""
    del search_path  # it is what the memory is keyed by
    return entry_points()


def _built_in(package: str, marker: str, attribute: str) -> list[Entry]:
    root = Path(str(files(package)))
    return [
        Entry(path.parent.name, f"{package}.{path.parent.name}:{attribute}", BUILT_IN)
        for path in sorted(root.glob(f"*/{marker}"))
    ]


def _find(package: str, marker: str, attribute: str, group: str) -> list[Entry]:
    return _built_in(package, marker, attribute) + installed_entries(group)


def pack_entries(*, also_hidden: bool = False) -> list[Entry]:
    """All packs, built-in and installed. `FACTORY_PACKS=none` or a comma list limits them, unless `also_hidden`."""
    found = _find("factory.domains", "pack.yaml", "PACK", PACK_GROUP)
    wanted = os.environ.get("FACTORY_PACKS")
    if wanted is None or also_hidden:
        return found
    names = {name.strip() for name in wanted.split(",")}
    return [entry for entry in found if {entry.name, f"{entry.distribution}/{entry.name}"} & names]


def stage_entries() -> list[Entry]:
    """All stage kinds: folders of `factory.stages` that hold a `config.py`, and installed ones."""
    return _find("factory.stages", "config.py", "STAGE", STAGE_GROUP)


def pick(name: str, entries: Sequence[Entry], group: str, *, built_in: Iterable[str] = (), hint: str = "") -> Entry:
    """The one entry of that name (`NAME`, or `DISTRIBUTION/NAME`).

    Args:
        built_in: names that the factory has itself, for messages only.
        hint: said after the list of what there is.

    Raises:
        UnknownPlugin: with a near miss and what is installed. DuplicatePlugin: two distributions have the name.
    """
    distribution, _, short = name.rpartition("/")
    hits = [e for e in entries if e.name == short and (not distribution or e.distribution == distribution)]
    what = GROUPS[group]
    if not hits:
        names = sorted({*built_in, *(entry.name for entry in entries)})
        raise UnknownPlugin(
            f"unknown {what} '{name}'.{near_miss(name, names)} Installed: {', '.join(names) or 'none'}. "
            f"A package adds one with the entry point group '{group}'.{hint}"
        )
    if len(hits) > 1:
        raise DuplicatePlugin(
            f"two {what}s are named '{name}': {' and '.join(e.origin for e in hits)}. "
            f"Uninstall one, or name it as DISTRIBUTION/{short}."
        )
    return hits[0]


def find_plugin(group: str, name: str, *, built_in: Iterable[str] = ()) -> Entry:
    """The installed entry of that name in a group that has no folders. Raises UnknownPlugin or DuplicatePlugin; imports nothing."""
    return pick(name, installed_entries(group), group, built_in=built_in)


def load_plugin(group: str, name: str, *, built_in: Iterable[str] = ()) -> Any:
    """Import one installed plugin of a group that has no folders: a piece, engine, launcher or judge.

    Raises:
        UnknownPlugin, DuplicatePlugin, BrokenPlugin: see `pick` and `Entry.load`; also when the target cannot be called.
    """
    entry = find_plugin(group, name, built_in=built_in)
    made = entry.load()
    if not callable(made):
        raise BrokenPlugin(
            f"'{entry.name}' from {entry.origin}: {entry.target} is a {type(made).__name__}, want something callable."
        )
    return made


def plugin_names(group: str) -> list[str]:
    """Names of what is installed in a group, sorted."""
    return sorted({entry.name for entry in installed_entries(group)})


def find_pack(name: str) -> Entry:
    """The entry of one pack. Raises UnknownPlugin (with a near miss) or DuplicatePlugin."""
    return pick(name, pack_entries(), PACK_GROUP, hint=_hidden_hint(name))


def _hidden_hint(name: str) -> str:
    """What to say of a pack that is there, but that FACTORY_PACKS leaves out."""
    wanted = os.environ.get("FACTORY_PACKS")
    short = name.rpartition("/")[2]
    if wanted is None or not any(entry.name == short for entry in pack_entries(also_hidden=True)):
        return ""
    return f" '{short}' is there, but FACTORY_PACKS={wanted} leaves it out: unset it or add the name."


def member_names(name: str) -> tuple[str, ...]:
    """The packs that a domain names: `a,b` is two. Raises UnknownPlugin for a name that is empty or stands twice."""
    names = tuple(part.strip() for part in name.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UnknownPlugin(f"domain '{name}' names a pack twice or leaves one empty. Write it as --domain chemistry,biology.")
    return names


def pack_folder(entry: Entry) -> Path:
    """Folder of the pack's files, found without importing any of its code, not even the packages around it."""
    spec = _spec_of(entry.target.partition(":")[0])
    if spec is None or spec.origin is None:
        module = entry.target.partition(":")[0]
        raise BrokenPlugin(f"'{entry.name}' from {entry.origin}: module {module} cannot be found. Reinstall it.")
    return Path(spec.origin).parent


def _spec_of(module: str) -> ModuleSpec | None:
    """Where a module lies. `importlib.util.find_spec` would import the packages around it."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    name = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec


def read_manifest(folder: Path) -> Manifest:
    """Read and check `pack.yaml`. Raises BrokenPlugin naming the file, the key and the remedy."""
    path = folder / "pack.yaml"
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise BrokenPlugin(f"{path}: cannot be read: {err}. A pack needs a valid pack.yaml.") from err
    if not isinstance(raw, Mapping):
        raise BrokenPlugin(f"{path}: must be a mapping of keys, got {type(raw).__name__}.")
    _check_contract(path, raw.get("contract", CONTRACT))
    known = Manifest.__dataclass_fields__
    for key in raw:
        if key not in known:
            raise BrokenPlugin(f"{path}: unknown key '{key}'.{near_miss(str(key), known)} Remove or rename it.")
    missing = [k for k in ("name", "title", "version", "license", "intended_use", "not_for") if not raw.get(k)]
    if missing:
        raise BrokenPlugin(f"{path}: missing {', '.join(missing)}. Every pack states them: add them.")
    for key, (wanted, is_one) in _FORMS.items():
        if key in raw and not is_one(raw[key]):
            raise BrokenPlugin(f"{path}: {key} must be {wanted}, got {raw[key]!r:.80}. Correct it.")
    lists = {k: tuple(raw[k]) for k in ("provides", "data") if k in raw}
    return Manifest(**{**raw, **lists})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(_is_mapping(one) for one in value)


def _is_mapping_of_mappings(value: Any) -> bool:
    return _is_mapping(value) and all(_is_mapping(one) for one in value.values())


_FORMS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("name", "title", "license", "intended_use", "not_for", "modality"), ("text", _is_text)),
    "version": ("text; quote it, as in '1.0'", _is_text),
    "provides": ("a list of names", _is_texts),
    "data": ("a list of mappings, one for each dataset", _is_mappings),
    "tasks": ("a mapping of tasks to their settings", _is_mapping_of_mappings),
    **dict.fromkeys(
        ("defaults", "conformance", "changelog", "trade_off"), ("a mapping; quote keys that are numbers", _is_mapping)
    ),
}
"""Key of pack.yaml -> (what it must be, whether a value is that)."""


def _check_contract(path: Path, wanted: Any) -> None:
    """Compare before anything else: keys of a newer contract are unknown here, and its code may not even import."""
    if wanted == CONTRACT:
        return
    is_newer = isinstance(wanted, int) and wanted > CONTRACT
    remedy = "pip install --upgrade domain-factory" if is_newer else "upgrade the pack, or install a factory of its time"
    raise BrokenPlugin(f"{path}: needs contract {wanted}, this factory has {CONTRACT}. Install a matching version: {remedy}.")


def manifest_of(name: str) -> Manifest:
    """The manifest of a domain, of one pack or of several (`a,b`), without importing any of them.

    Raises:
        PluginError: unknown, ambiguous, broken, or another contract.
    """
    names = member_names(name)
    found = [read_manifest(pack_folder(find_pack(one))) for one in names]
    return found[0] if len(found) == 1 else importlib.import_module(COMPOSER).compose_manifests(names, found)


def load_pack(name: str) -> DomainPack:
    """Import a domain's pack (of several, each) and return it. Raises PluginError: unknown, ambiguous, broken, or wrong contract."""
    names = member_names(name)
    if len(names) > 1:
        return importlib.import_module(COMPOSER).ComposedPack({one: load_pack(one) for one in names})
    entry = find_pack(name)
    read_manifest(pack_folder(entry))
    return entry.load()


def is_built_in_stage(kind: str) -> bool:
    """Whether a stage kind comes with the factory. Raises PluginError: unknown or ambiguous."""
    return pick(kind, stage_entries(), STAGE_GROUP).origin == BUILT_IN


@cache
def load_stage(kind: str) -> Stage:
    """Import one stage kind (light: no torch until it runs)."""
    return pick(kind, stage_entries(), STAGE_GROUP).load()


def source_folder(plugin: Any) -> Path:
    """Folder of the source file that defines a function, class or instance; what fingerprints hash."""
    own = plugin if inspect.isclass(plugin) or inspect.isroutine(plugin) else type(plugin)
    return Path(inspect.getfile(own)).parent
