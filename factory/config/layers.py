"""Layers of a build's config as plain data that remembers the line, or the flag, each key was written on.

Order, each winning over the one before: defaults < pack.yaml `defaults:` < recipe (after those it `extends:`) < command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Any

import yaml

from factory.config.provenance import Path, dotted
from factory.errors import ConfigError, near_miss
from factory.plugins import find_pack, member_names, pack_folder, read_manifest
from factory.quick_yaml import MAX_DEPTH

RECIPE_KEYS = ("extends", "description")
"""Keys of a recipe file that are about the file and not settings of the build."""


@dataclass
class Layer:
    """One source of settings."""

    name: str
    values: dict[str, Any]
    places: dict[Path, str] = field(default_factory=dict)
    source: str = ""
    """File or flags; shown where a key has no place of its own."""

    def where(self, path: Path) -> str:
        """Place of a key, or of the nearest mapping around it, or of the first key inside it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        inside = (place for known, place in self.places.items() if known[: len(path)] == path)
        return next(inside, self.source) if path else self.source

    def set(self, path: Path, value: Any, flag: str) -> None:
        """Lay one value, deep; a later call wins. Raises ConfigError when a scalar stands in the way."""
        target = self.values
        for depth, key in enumerate(path[:-1], start=1):
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise ConfigError(
                    f"{flag}: '{dotted(path[:depth])}' was given the value {target!r} by {self.where(path[:depth])}, "
                    "so nothing can be set inside it. Drop one of the two flags."
                )
        target[path[-1]] = value
        self.places = {known: place for known, place in self.places.items() if known[: len(path)] != path} | {path: flag}


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-4` is a number and a date is text."""

    def fetch_more_tokens(self) -> Any:
        """As PyYAML; but too deep a nesting is an error at once."""
        if self.flow_level > MAX_DEPTH or len(self.indents) > MAX_DEPTH:
            raise yaml.scanner.ScannerError(None, None, f"more than {MAX_DEPTH} levels", self.get_mark())
        return super().fetch_more_tokens()


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?: [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
             | [-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN) )$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)


def shown(path: FilePath) -> str:
    """A path as short as it can be typed from here: relative inside the working directory, else absolute."""
    absolute = path.resolve()
    try:
        return str(absolute.relative_to(FilePath.cwd().resolve()))
    except ValueError:
        return str(absolute)


def parse_value(text: str, flag: str) -> Any:
    """A command-line value read as YAML (`012` is 10, `yes` is true); nothing after `=` is the empty text."""
    try:
        return yaml.load(text, Loader=_Loader) if text else ""
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise ConfigError(
            f"{flag}: the value is not valid YAML ({str(err).splitlines()[0]}). Quote it, for example 'key=\"text\"'."
        ) from err


class _Reader:
    """Turns a YAML node tree into plain data, noting the line of each key."""

    def __init__(self, loader: _Loader, label: str) -> None:
        self.loader, self.label = loader, label
        self.places: dict[Path, str] = {}
        self.open_nodes: list[yaml.Node] = []

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        if node in self.open_nodes:
            raise ConfigError(f"{self.label}:{node.start_mark.line + 1}: a YAML alias contains itself. Write the section out.")
        self.open_nodes.append(node)
        self._refuse_twice(node, path)
        self.loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = f"{self.label}:{key_node.start_mark.line + 1}"
            key = self.loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConfigError(
                    f"{place}: the key {key!r} is a {type(key).__name__}, keys are text. Quote it: '{key_node.value}'."
                )
            here = (*path, key)
            self.places[here] = place
            is_mapping = isinstance(value_node, yaml.MappingNode)
            values[key] = self.mapping(value_node, here) if is_mapping else self.loader.construct_object(value_node, deep=True)
        self.open_nodes.pop()
        return values

    def _refuse_twice(self, node: yaml.MappingNode, path: Path) -> None:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            word, line = str(key_node.value), key_node.start_mark.line + 1
            if word in lines and word != "<<":
                key = dotted((*path, word))
                raise ConfigError(
                    f"{self.label}:{line}: the key '{key}' was already written on line {lines[word]}. Keep one of the two."
                )
            lines[word] = line


def read_yaml(file: FilePath, name: str) -> Layer:
    """Read one YAML mapping as a layer. Raises ConfigError naming file and line: unreadable, not YAML, a key twice."""
    label = shown(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{label}: cannot be read: {err}. Check the path and that it is UTF-8 text.") from err
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Layer(name, {}, {}, label)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{label}:{node.start_mark.line + 1}: must be a mapping of settings (`key: value`).")
        reader = _Reader(loader, label)
        return Layer(name, reader.mapping(node, ()), reader.places, label)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{label}{line}: not valid YAML: {getattr(err, 'problem', err)}. Check indentation and quotes."
        ) from err
    except ConfigError:
        raise
    except (ValueError, RecursionError) as err:
        raise ConfigError(f"{label}: holds a value that cannot be read: {err}. Quote it, or write the section out.") from err
    finally:
        if loader is not None:
            loader.dispose()


def pack_layer(folder: FilePath) -> Layer:
    """The `defaults:` section of a pack's pack.yaml."""
    whole = read_yaml(folder / "pack.yaml", "pack")
    values = whole.values.get("defaults") or {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{whole.where(('defaults',))}: defaults must be a mapping of settings.")
    places = {path[1:]: place for path, place in whole.places.items() if path[0] == "defaults" and len(path) > 1}
    return Layer("pack", dict(values), places, whole.source)


def leading_folder(domain: str) -> FilePath:
    """Folder of a domain's pack; of several (`a,b`) that of the first, whose recipes are used."""
    return pack_folder(find_pack(member_names(domain)[0]))


def recipe_names(folder: FilePath) -> list[str]:
    """Names of the recipes a pack ships."""
    return sorted(file.stem for file in (folder / "recipes").glob("*.yaml"))


def shared_recipes() -> dict[str, FilePath]:
    """Recipes that come with the factory, for any pack that has what they need: name -> file."""
    folder = FilePath(str(files("factory"))) / "templates" / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str, folder: FilePath | None, *, beside: FilePath, place: str) -> FilePath:
    """File of a recipe: a path (it holds a separator or ends in .yaml), or a name in the pack's `recipes/`, else a shared one.

    Args:
        folder: the pack's folder, or None when the pack is not known yet.
        beside: folder from which a relative path is taken.
        place: where the name was written, for the error.
    """
    if os.sep in name or "/" in name or name.endswith((".yaml", ".yml")):
        file = beside / FilePath(name).expanduser()
        if not file.is_file():
            raise ConfigError(f"{place}: the recipe file {shown(file)} does not exist. Check the path.")
        return file
    if folder is None:
        raise ConfigError(
            f"{place}: the recipe '{name}' is looked up in a domain pack. Add --domain NAME, or give a path to a recipe file."
        )
    file = folder / "recipes" / f"{name}.yaml"
    if file.is_file():
        return file
    own, shared = recipe_names(folder), shared_recipes()
    if name not in shared:
        raise ConfigError(
            f"{place}: the pack {read_manifest(folder).name} has no recipe '{name}'.{near_miss(name, [*own, *shared])} "
            f"It has: {', '.join(own) or 'none'}. For every pack: {', '.join(shared)}. A path to a YAML file works too."
        )
    return shared[name]


def recipe_layers(name: str, folder: FilePath | None, place: str) -> list[Layer]:
    """A recipe and all it extends, the furthest ancestor first. Raises ConfigError for a missing recipe or a cycle."""
    chain: list[Layer] = []
    seen: list[FilePath] = []
    beside = FilePath.cwd()
    wanted: str | None = name
    while wanted is not None:
        file = find_recipe(wanted, folder, beside=beside, place=place).resolve()
        if file in seen:
            loop = " -> ".join(shown(f) for f in [*seen[seen.index(file) :], file])
            raise ConfigError(f"{place}: recipes extend each other in a circle: {loop}. Remove one `extends:`.")
        seen.append(file)
        layer = read_yaml(file, "recipe")
        if folder is None and isinstance(layer.values.get("domain"), str):
            folder = leading_folder(layer.values["domain"])
        anchor_paths(layer, file.parent)
        chain.insert(0, layer)
        wanted, place, beside = layer.values.get("extends"), layer.where(("extends",)), file.parent
        if wanted is not None and not isinstance(wanted, str):
            raise ConfigError(f"{place}: extends must be one recipe name or path, got {wanted!r}.")
        for key in RECIPE_KEYS:
            layer.values.pop(key, None)
    return chain


def member_layers(domain: str, recipe: str, recipes: Sequence[Layer]) -> list[Layer]:
    """The layers below a composed build's command line: `defaults:` of every pack and their recipes' `pack:` options, each put
    under its pack's name, then the leading pack's recipe. Recipes from elsewhere are taken as they are: they know all packs.

    Args:
        domain: `a,b`.
        recipe: its name; the other packs give their options from their recipe of that name, where they have one.
        recipes: the recipe and all it extends, as `recipe_layers` read them.
    """
    lead, *others = member_names(domain)
    found: list[Layer] = []
    for name in reversed(others):
        folder = pack_folder(find_pack(name))
        found.append(put_under(name, pack_layer(folder)))
        if recipe in recipe_names(folder):
            for layer in recipe_layers(recipe, folder, f"--recipe {recipe}"):
                found.append(
                    put_under(name, Layer(layer.name, {"pack": layer.values.get("pack") or {}}, layer.places, layer.source))
                )
    folder = pack_folder(find_pack(lead))
    own = {shown(file) for file in (folder / "recipes").glob("*.yaml")} | {
        shown(file.resolve()) for file in (folder / "recipes").glob("*.yaml")
    }
    found.append(put_under(lead, pack_layer(folder)))
    return found + [put_under(lead, layer) if layer.source in own else layer for layer in recipes]


def put_under(name: str, layer: Layer) -> Layer:
    """A pack's own layer for a build of several packs: its options become `pack.NAME.*`, its mixture that of `NAME/task`."""
    values, places = dict(layer.values), {}
    if isinstance(values.get("pack"), Mapping):
        values["pack"] = {name: dict(values["pack"])}
    if isinstance(values.get("mixture"), Mapping):
        values["mixture"] = {
            f"{name}/{task}": {f"{name}/{verifier}": weight for verifier, weight in (weights or {}).items()}
            for task, weights in values["mixture"].items()
        }
    for path, place in layer.places.items():
        if path[0] == "pack" and len(path) > 1:
            path = ("pack", name, *path[1:])
        elif path[0] == "mixture" and len(path) > 1:
            path = ("mixture", *(f"{name}/{part}" for part in path[1:]))
        places[path] = place
    return Layer(layer.name, values, places, layer.source)


def anchor_paths(layer: Layer, folder: FilePath) -> None:
    """Make `base` and `data.paths` absolute where they name something that exists seen from `folder`."""

    def anchored(text: Any) -> Any:
        if (
            isinstance(text, str)
            and text
            and not text.startswith("embedded-")
            and (folder / FilePath(text).expanduser()).exists()
        ):
            return str((folder / FilePath(text).expanduser()).resolve())
        return text

    if "base" in layer.values:
        layer.values["base"] = anchored(layer.values["base"])
    section = layer.values.get("data")
    if isinstance(section, dict) and isinstance(section.get("paths"), list):
        section["paths"] = [anchored(text) for text in section["paths"]]


def command_layer(flags: Sequence[tuple[str, str, Any]], overrides: Sequence[str]) -> Layer:
    """The command line: `flags` are (flag as typed, key, value), `overrides` are the `a.b=c` of each --set, which win.

    Raises ConfigError for an override without `=`, with an empty key, or whose value is not YAML.
    """
    layer = Layer("command line", {}, {}, "command line")
    for flag, key, value in flags:
        layer.set(tuple(key.split(".")), value, flag)
    for text in overrides:
        key, equals, value = text.partition("=")
        flag = f"--set {text}"
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise ConfigError(f"{flag}: must look like --set stages.rl.group_size=16 (a dotted key, '=', a value).")
        layer.set(path, parse_value(value, flag), flag)
    anchor_paths(layer, FilePath.cwd())
    return layer
